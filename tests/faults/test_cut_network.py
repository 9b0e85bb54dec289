"""The network between a node and Postgres, and between a node and a container, is cut without a word and mended.

The node lives in a network namespace of its own; Postgres is reached from there by one wire.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from os import environ
from pathlib import Path

import orjson
import pytest
from sqlalchemy import func, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from core.database import sqlalchemy_url
from core.lifecycle import FailureCode
from core.tables import Node
from tests.faults.load import all_ended, rows_of, until
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.network import Network, relay
from tests.support.platform import PROJECTS, Platform
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.servers import running_servers

pytestmark = pytest.mark.faults

RUN_SECONDS = 2.0
#: Less than a lease: the run ends meanwhile, and nobody else is given it.
CUT_SECONDS = 6.0
RUN_TIMEOUT_SECONDS = 5


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory, apart: Network) -> AsyncIterator[Platform]:
    port = free_port()
    url = f"MILLRACE_DATABASE_URL=postgresql://postgres@{apart.outside}:{port}/postgres"
    platform = Platform(tmp_path_factory.mktemp("cut"), {"node": ("env", url, *apart.prefix)}, cancel_grace_seconds=1.0)
    async with relay(apart.outside, port, platform.postgres_socket), platform:
        quick = {"prediction_timeout_seconds": RUN_TIMEOUT_SECONDS}
        await platform.wait_ready(await platform.publish(PROJECTS / "sleeper", **quick))
        yield platform


@pytest.fixture
async def broken(platform: Platform) -> Platform:
    await platform.heal()
    return platform


async def test_a_node_cut_off_from_postgres_for_a_moment_brings_its_result_late(
    broken: Platform, apart: Network
) -> None:
    id = await _running(broken, "late")
    with apart.cut_off("-p", "tcp", "-d", apart.outside):
        await asyncio.sleep(CUT_SECONDS)
        [row] = await rows_of(broken, [id])
        assert row.status == "processing"
    with recovery(f"node cut off from postgres for {CUT_SECONDS:.0f} s"):
        [row] = await all_ended(broken, [id])
    assert (row.status, row.attempt, row.output) == ("succeeded", 1, "late")
    await check_invariants(broken, [id])


async def test_a_node_cut_off_past_its_lease_is_given_up_and_its_late_result_refused(
    broken: Platform, apart: Network
) -> None:
    id = await _running(broken, "again")
    with apart.cut_off("-p", "tcp", "-d", apart.outside):
        await _let_the_lease_run_out(broken)
        await until(partial(_waits, broken, id))
    with recovery("node cut off from postgres past its lease"):
        await broken.ended("node")
        await broken.restart("node")
        [row] = await all_ended(broken, [id])
    assert (row.status, row.attempt, row.output) == ("succeeded", 2, "again")
    await check_invariants(broken, [id])


async def test_a_container_that_cannot_be_reached_fails_its_prediction_and_is_replaced(
    broken: Platform, apart: Network
) -> None:
    id = await _running(broken, "unheard", seconds=600)
    [row] = await rows_of(broken, [id])
    record = broken.settings.data / "instances" / row.instance_id / "container.json"
    port = str(orjson.loads(record.read_bytes())["port"])
    with apart.cut_off("-o", "lo", "-p", "tcp", "--dport", port), recovery("container cut off from its node"):
        ended = await broken.client.finished(id)
        assert ended["status"] == "failed", ended
        created = await broken.client.create("millrace/sleeper", {"text": "next", "seconds": 0})
        assert (await broken.client.finished(created["id"]))["output"] == "next"
    [row] = await rows_of(broken, [id])
    assert row.failure_code in (FailureCode.TIMEOUT, FailureCode.CONTAINER_LOST)
    await check_invariants(broken, [id, created["id"]])


#: Holds a lock until it is killed.
HOLD = """
import asyncio, sys
from sqlalchemy import text
from core.database import open_database
from core.settings import Settings

async def main():
    database = await open_database(Settings(database_url=sys.argv[1]), None)
    async with database.autocommit() as tx:
        await tx.execute(text("SELECT pg_advisory_lock(7)"))
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_what_a_machine_had_locked_that_is_cut_off_is_soon_free(apart: Network, tmp_path: Path) -> None:
    """One that reaches Postgres by TCP itself; by the system's own setting Postgres would ask after it in two hours."""
    who_may_enter = tmp_path / "pg_hba.conf"
    who_may_enter.write_text("local all all trust\nhost all all samenet trust\n")
    with running_servers(tmp_path, listen_addresses=apart.outside, hba_file=str(who_may_enter)) as servers:
        url = f"postgresql://postgres@{apart.outside}/postgres"
        holder = Process("holder", (*apart.prefix, sys.executable, "-c", HOLD, url), environ, tmp_path / "holder.log")
        holder.start()
        await until(partial(_says, holder, "held"))
        engine = create_async_engine(sqlalchemy_url(servers.database_url))
        async with engine.connect() as connection:
            taking = text("SELECT pg_try_advisory_lock(7)")
            assert not await connection.scalar(taking)
            with apart.cut_off("-p", "tcp", "-d", apart.outside), recovery("locks of a machine cut off from postgres"):
                await until(partial(connection.scalar, taking))
        await engine.dispose()
        await holder.stop()


async def _says(process: Process, word: str) -> bool:
    return word in process.tail()


async def _running(platform: Platform, text: str, seconds: float = RUN_SECONDS) -> str:
    created = await platform.client.create("millrace/sleeper", {"text": text, "seconds": seconds})
    await platform.client.until(created["id"], "processing")
    return created["id"]


async def _waits(platform: Platform, id: str) -> bool:
    [row] = await rows_of(platform, [id])
    return row.status == "starting"


async def _let_the_lease_run_out(platform: Platform) -> None:
    async with platform.resources.database.transaction() as tx:
        await tx.execute(update(Node).values(lease_expires_at=func.now()))
