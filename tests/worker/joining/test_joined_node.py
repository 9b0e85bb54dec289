"""A node on another machine, as a real process with a data folder of its own, which knows of nothing but a gateway."""

import base64
import hashlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import select

from core.joining import members
from core.tables import Instance, Node, Prediction
from tests.faults.load import rows_of, until
from tests.support.gateways import UP_SECONDS, GatewayProcess, joined_node, model_processes, up
from tests.support.platform import PROJECTS, Platform
from tests.support.ports import free_port
from tests.support.process import Process
from worker.commands.running import NOT_PERMITTED

pytestmark = pytest.mark.faults

#: Longer than a busy machine needs to start a program.
LEASE_SECONDS = 90.0


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Without a node of its own: whatever runs here runs on those that join."""
    async with Platform(tmp_path_factory.mktemp("control-plane"), node_lease_seconds=LEASE_SECONDS) as platform:
        await platform.wait_ready(
            await platform.publish(PROJECTS / "files"), await platform.publish(PROJECTS / "sleeper")
        )
        await platform.kill("node", signal.SIGTERM)
        yield platform


@pytest.fixture(scope="module")
async def gateway(platform: Platform) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(platform.resources, free_port())
    await gateway.start()
    yield gateway
    await gateway.stop()


def said_at(process: Process) -> float:
    """When it spoke last, by its own clock."""
    moments = re.findall(r"^(\d{4}-\d\d-\d\dT[\d:.]+Z) ", process.log.read_text(), re.MULTILINE)
    return datetime.fromisoformat(moments[-1]).timestamp()


async def upload(platform: Platform, content: bytes) -> str:
    form = aiohttp.FormData()
    form.add_field("content", content, filename="input.bin", content_type="application/octet-stream")
    headers = {"Authorization": f"Bearer {platform.token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{platform.api_url}/files", data=form) as response,
    ):
        assert response.status == 201, await response.text()
        return (await response.json())["urls"]["get"]


async def node_of(platform: Platform, prediction_id: str) -> str:
    statement = (
        select(Node.name)
        .join(Instance, Instance.node_id == Node.id)
        .join(Prediction, Prediction.instance_id == Instance.id)
    )
    async with platform.resources.database.autocommit() as tx:
        return await tx.scalar(statement.where(Prediction.id == prediction_id))


async def runs_with_files(platform: Platform, name: str) -> None:
    """A file goes in, two come out, and the node of that name did it."""
    content = os.urandom(300_000)
    created = await platform.client.create("millrace/files", {"file": await upload(platform, content), "count": 2})
    ended = await platform.client.finished(created["id"], seconds=UP_SECONDS)
    assert ended["status"] == "succeeded", ended
    assert ended["output"]["sha256"] == hashlib.sha256(content).hexdigest()
    told = [base64.b64decode(uri.partition(",")[2]) for uri in ended["output"]["files"]]
    assert told == [b"file 0\n", b"file 1\n"]
    assert await node_of(platform, created["id"]) == name


async def test_a_node_joins_by_one_command_and_runs_predictions_with_files(
    platform: Platform, gateway: GatewayProcess, tmp_path: Path
) -> None:
    async with joined_node(gateway, tmp_path, "second-machine") as node:
        row = await up(gateway, node)
        assert (row.name, row.artifact_kinds) == ("second-machine", ["bundle"])
        assert isinstance(row.gpus, list)
        await runs_with_files(platform, "second-machine")


async def test_two_nodes_that_joined_are_listed_and_share_the_work(
    platform: Platform, gateway: GatewayProcess, tmp_path: Path
) -> None:
    async with (
        joined_node(gateway, tmp_path / "one", "one") as one,
        joined_node(gateway, tmp_path / "two", "two") as two,
    ):
        assert {(await up(gateway, node)).name for node in (one, two)} == {"one", "two"}
        await one.stop()
        await runs_with_files(platform, "two")


async def test_a_prediction_survives_that_the_connection_is_cut(
    platform: Platform, gateway: GatewayProcess, tmp_path: Path
) -> None:
    async with joined_node(gateway, tmp_path, "cut-off") as node:
        created = await platform.client.create("millrace/sleeper", {"text": "still here", "seconds": 6})
        await platform.client.until(created["id"], "processing", seconds=UP_SECONDS)
        gateway.process.send(signal.SIGKILL)
        await gateway.process.wait()
        await gateway.start()
        ended = await platform.client.finished(created["id"], seconds=UP_SECONDS)
        assert (ended["status"], ended["output"]) == ("succeeded", "still here")
        assert await node_of(platform, created["id"]) == "cut-off"
        assert node.is_running
        assert "the gateway answers again" in node.log.read_text()


async def test_a_node_starts_again_without_the_token(
    platform: Platform, gateway: GatewayProcess, tmp_path: Path
) -> None:
    async with joined_node(gateway, tmp_path, "restarted") as node:
        await node.stop()
        node.environment = {name: value for name, value in node.environment.items() if name != "MILLRACE_JOIN"}
        node.start()
        await up(gateway, node)
        await runs_with_files(platform, "restarted")


async def test_a_node_that_is_reloaded_goes_on_with_what_it_runs(
    platform: Platform, gateway: GatewayProcess, tmp_path: Path
) -> None:
    """As `systemctl reload` does after an upgrade: the new program opens a tunnel of its own."""
    async with joined_node(gateway, tmp_path, "reloaded") as node:
        created = await platform.client.create("millrace/sleeper", {"seconds": 3600})
        await platform.client.until(created["id"], "processing", seconds=UP_SECONDS)
        pid = node.pid
        node.send(signal.SIGHUP)
        await until(partial(_is_up_again, node), UP_SECONDS)
        assert node.is_running
        assert node.pid == pid
        await runs_with_files(platform, "reloaded")
        [row] = await rows_of(platform, [created["id"]])
        assert (row.status, row.attempt) == ("processing", 1)
        await platform.client.cancel(created["id"])
        assert (await platform.client.finished(created["id"], seconds=UP_SECONDS))["status"] == "canceled"


async def _is_up_again(node: Process) -> bool:
    return node.log.read_text().count("node is up") == 2


async def test_an_expelled_node_ends_and_takes_its_containers_with_it(
    platform: Platform, gateway: GatewayProcess, tmp_path: Path
) -> None:
    async with joined_node(gateway, tmp_path, "expelled") as node:
        created = await platform.client.create("millrace/sleeper", {"seconds": 120})
        await platform.client.until(created["id"], "processing", seconds=UP_SECONDS)
        assert model_processes(tmp_path)
        async with platform.resources.database.transaction() as tx:
            await members.expel(tx, "expelled")
        assert await node.wait(UP_SECONDS) == NOT_PERMITTED
        assert "The node expelled has been expelled" in node.tail()
        assert not model_processes(tmp_path)
        await platform.client.cancel(created["id"])


@pytest.mark.parametrize("offset", ["+9m", "-9m"])
async def test_a_node_whose_clock_differs_by_minutes_joins_and_works(
    platform: Platform, gateway: GatewayProcess, tmp_path: Path, offset: str
) -> None:
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        assert not os.environ.get("CI"), "CI has to run this test, and faketime is not installed."
        pytest.skip("faketime is not installed.")
    name = "ahead" if offset.startswith("+") else "behind"
    # Not by its own command, which would stay in between and take our signals.
    wrapper = ("env", f"LD_PRELOAD={library}", f"FAKETIME={offset}", "FAKETIME_DONT_FAKE_MONOTONIC=1")
    async with joined_node(gateway, tmp_path, name, wrapper) as node:
        await runs_with_files(platform, name)
        assert abs(said_at(node) - time.time()) > 5 * 60
