"""A node of another machine whose network loses everything without a word, both ways, while it works.

It lives in a network namespace of its own and knows of nothing but a gateway. Each side must notice by itself: no
reset comes, and none is sent.
"""

import signal
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select, text, update

from core.tables import Instance, Node, Prediction
from tests.faults.load import all_ended, rows_of, until
from tests.faults.recovery import recovery
from tests.support.gateways import UP_SECONDS, GatewayProcess, joined_node, up
from tests.support.invariants import check_invariants
from tests.support.network import Network
from tests.support.platform import PROJECTS, Platform
from tests.support.ports import free_port
from tests.support.process import Process

pytestmark = pytest.mark.faults

#: Longer than any connection lives that is cut, on a machine however busy.
LEASE_SECONDS = 60.0
#: Postgres and the kernel give up after 15 s at most.
NOTICE_SECONDS = 90.0

#: Writes a file when it is told to, by another file.
PATIENT = """
import time
import tempfile
from cog import BasePredictor, Path

class Predictor(BasePredictor):
    def predict(self, told: str) -> Path:
        while not Path(told).exists():
            time.sleep(0.05)
        path = Path(tempfile.mkdtemp()) / "late.txt"
        path.write_text("late")
        return path
"""


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("cut"), node_lease_seconds=LEASE_SECONDS) as platform:
        models = [
            await platform.publish(PROJECTS / "sleeper"),
            await platform.publish(PROJECTS / "sleeper", "patient", files={"predict.py": PATIENT}),
        ]
        await platform.wait_ready(*models)
        yield platform


@pytest.fixture(scope="module")
async def gateway(platform: Platform, apart: Network) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(platform.resources, free_port(), apart.outside)
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
async def alone(platform: Platform) -> Platform:
    """With its own node away: whatever runs, runs on the one that joined."""
    await platform.heal()
    await platform.kill("node", signal.SIGTERM)
    return platform


async def test_what_a_node_runs_while_it_is_cut_off_comes_late_with_its_files(
    alone: Platform, gateway: GatewayProcess, apart: Network, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    async with joined_node(gateway, tmp_path, "cut-within", apart.prefix) as node:
        ids = [
            await _running(alone, "sleeper", {"text": "late", "seconds": 3}),
            await _running(alone, "patient", {"told": str(told)}),
        ]
        with apart.cut_off("-d", apart.outside):
            await _both_sides_notice(gateway, node)
            told.touch()
            await until(partial(_says, node, "file store not answering"))
        with recovery("joined node cut off from its gateway, within its lease"):
            rows = {row.model: row for row in await all_ended(alone, ids)}
        assert {row.status for row in rows.values()} == {"succeeded"}, [row.error for row in rows.values()]
        assert {row.attempt for row in rows.values()} == {1}
        assert rows["millrace/sleeper"].output == "late"
        assert node.is_running
    await alone.restart("node")
    await check_invariants(alone, ids)


async def test_a_node_cut_off_past_its_lease_begins_anew_and_what_it_ran_has_run_elsewhere(
    alone: Platform, gateway: GatewayProcess, apart: Network, tmp_path: Path
) -> None:
    async with joined_node(gateway, tmp_path, "cut-past", apart.prefix) as node:
        id = await _running(alone, "sleeper", {"text": "again", "seconds": 5})
        with apart.cut_off("-d", apart.outside):
            await _both_sides_notice(gateway, node)
            await _let_the_lease_run_out(alone, node.name)
            with recovery("joined node cut off past its lease, what it ran elsewhere"):
                await alone.restart("node")
                [row] = await all_ended(alone, [id], UP_SECONDS)
        assert (row.status, row.attempt, row.output) == ("succeeded", 2, "again")
        assert await _node_of(alone, id) == alone.settings.node
        with recovery("joined node cut off past its lease, until it works again"):
            await until(partial(_says, node, "The lease of this node ran out"), UP_SECONDS)
            await up(gateway, node)
        await alone.kill("node", signal.SIGTERM)
        other = await _running(alone, "sleeper", {"text": "works again", "seconds": 0.1})
        await all_ended(alone, [other], UP_SECONDS)
        assert await _node_of(alone, other) == node.name
    await alone.restart("node")
    assert [(row.status, row.attempt) for row in await rows_of(alone, [id])] == [("succeeded", 2)]
    await check_invariants(alone, [id, other])


async def _running(platform: Platform, model: str, input: dict[str, object]) -> str:
    created = await platform.client.create(f"millrace/{model}", input)
    await platform.client.until(created["id"], "processing", seconds=UP_SECONDS)
    return created["id"]


async def _both_sides_notice(gateway: GatewayProcess, node: Process) -> None:
    """Neither keeps a connection that nobody hears, nor does Postgres keep its session, with the locks it may hold."""
    began = time.monotonic()
    await until(partial(_says, node, "the gateway is away"), NOTICE_SECONDS)
    noticed = time.monotonic()
    await until(partial(_is_free_of, gateway, node.name), NOTICE_SECONDS)
    sys.stdout.write(f"\nnoticed after {noticed - began:.1f} s by the node, {time.monotonic() - began:.1f} s by all\n")


async def _says(process: Process, words: str) -> bool:
    return words in process.log.read_text()


async def _is_free_of(gateway: GatewayProcess, node: str) -> bool:
    sockets = psutil.Process(gateway.process.pid).net_connections(kind="tcp")
    if any(socket.raddr for socket in sockets):
        return False
    sessions = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name").bindparams(
        name=f"node {node}"
    )
    async with gateway.resources.database.autocommit() as tx:
        return not await tx.scalar(sessions)


async def _let_the_lease_run_out(platform: Platform, node: str) -> None:
    async with platform.resources.database.transaction() as tx:
        await tx.execute(update(Node).where(Node.name == node).values(lease_expires_at=func.now()))


async def _node_of(platform: Platform, id: str) -> str:
    statement = (
        select(Node.name)
        .join(Instance, Instance.node_id == Node.id)
        .join(Prediction, Prediction.instance_id == Instance.id)
    )
    async with platform.resources.database.autocommit() as tx:
        return await tx.scalar(statement.where(Prediction.id == id))
