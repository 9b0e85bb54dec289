"""A node whose program is replaced while it works: SIGHUP. What runs goes on as if nothing had happened."""

import asyncio
import signal
from functools import partial
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Row, select

from core import health
from core.tables import Instance, Node, UsageRecord
from tests.faults.load import all_ended, rows_of, until
from tests.support.invariants import check_invariants
from tests.support.platform import Platform
from tests.support.receiver import Receiver

pytestmark = pytest.mark.faults

#: Longer than a new program takes to start on a busy machine, mostly; nothing fails where it takes longer.
RUN_SECONDS = 25.0

CLASSIC = {"cog.yaml": 'build:\n  python_version: "3.11"\n  sdk_version: "0.16.12"\npredict: "predict.py:Predictor"\n'}

#: Writes its file only after a while, so that the upload falls into the restart.
SLOW_FILE = '''"""Sleeps, then writes a file."""

import time

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):
    def predict(self, seconds: float = Input(default=1.0)) -> Path:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.02)
        path = Path("/tmp/late.txt") if False else Path("late.txt")
        path.write_text("late but whole")
        return path
'''


@pytest.fixture(scope="module", params=["process"])
def prepared_runtime(request: pytest.FixtureRequest) -> str:
    return request.param


async def hup(platform: Platform) -> None:
    """Replaces the node's program, and returns once the new one is at work."""
    process, before = platform.processes["node"], await _ups(platform)
    process.send(signal.SIGHUP)
    await until(partial(_is_up_again, platform, before))
    assert process.is_running


async def _ups(platform: Platform) -> int:
    return platform.processes["node"].log.read_text(errors="replace").count("node is up")


async def _is_up_again(platform: Platform, before: int) -> bool:
    platform.check()
    return await _ups(platform) > before and health.is_alive(platform.settings, "node")


async def boot(platform: Platform, *models: str) -> None:
    """So that what is created next begins at once."""
    inputs: dict[str, Any] = {"sleeper": {"seconds": 0}, "chatty": {"count": 1, "sleep_seconds": 0}}
    for model in models:
        prediction = await platform.client.create(f"millrace/{model}", inputs.get(model.removeprefix("classic-"), {}))
        assert (await platform.client.finished(prediction["id"]))["status"] == "succeeded"


async def instances(platform: Platform) -> dict[str, str]:
    async with platform.resources.database.autocommit() as tx:
        return {row.id: row.status for row in await tx.all(select(Instance.id, Instance.status))}


async def boot_id(platform: Platform) -> str:
    async with platform.resources.database.autocommit() as tx:
        return await tx.scalar(select(Node.boot_id))


async def usage(platform: Platform, ids: list[str]) -> dict[str, list[int]]:
    async with platform.resources.database.autocommit() as tx:
        rows = await tx.all(select(UsageRecord).where(UsageRecord.cause_id.in_(ids)))
    return {id: [row.micros for row in rows if row.cause_id == id] for id in ids}


@pytest.mark.parametrize("prepared", ["process"], indirect=True)
async def test_what_runs_ends_as_if_nothing_had_happened(broken: Platform, receiver: Receiver) -> None:
    await boot(broken, "sleeper", "chatty")
    life, pid, before = await boot_id(broken), broken.processes["node"].pid, await instances(broken)
    count = 40
    silent = await broken.client.create(
        "millrace/sleeper", {"text": "silent", "seconds": RUN_SECONDS}, webhook=receiver.url
    )
    talking = await broken.client.create(
        "millrace/chatty", {"count": count, "sleep_seconds": RUN_SECONDS / count}, webhook=receiver.url
    )
    ids = [silent["id"], talking["id"]]
    listening = asyncio.create_task(heard(broken, talking["urls"]["stream"]))
    await broken.client.until(silent["id"], "processing")
    await until(partial(_has_spoken, broken, talking["id"]))
    waiting = [await broken.client.create("millrace/sleeper", {"text": "next", "seconds": 0}, webhook=receiver.url)]
    await hup(broken)
    assert {row.status for row in await rows_of(broken, ids)} == {"processing"}
    rows = {row.id: row for row in await all_ended(broken, [*ids, *(one["id"] for one in waiting)])}
    assert {(row.status, row.attempt) for row in rows.values()} == {("succeeded", 1)}
    chunks = [f"chunk {index}" for index in range(count)]
    assert rows[talking["id"]].output == chunks == await listening
    assert rows[silent["id"]].output == "silent"
    assert [line for line in rows[talking["id"]].logs.splitlines() if line.startswith("log ")] == [
        f"log {index}" for index in range(count)
    ]
    assert rows[talking["id"]].metrics["chunk_count"] == count
    assert (await boot_id(broken), broken.processes["node"].pid) == (life, pid)
    assert before.items() <= (await instances(broken)).items()
    for id, micros in (await usage(broken, ids)).items():
        assert [row_seconds(rows[id])] == [pytest.approx(micros[0] / 1e6, abs=1.0)]
        assert len(micros) == 1
    await check_invariants(broken, [*ids, *(one["id"] for one in waiting)], receiver)


def row_seconds(row: Row) -> float:
    """From its start to its end, by the database's clock."""
    return (row.completed_at - row.started_at).total_seconds()


async def heard(platform: Platform, url: str) -> list[str]:
    """What a listener of its stream is told, to its end."""
    chunks, event = [], ""
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {platform.token}"}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        async for line in answer.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == "output":
                chunks.append(value)
            if event == "done":
                return chunks
    return chunks


async def _has_spoken(platform: Platform, id: str) -> bool:
    return bool((await platform.client.get(id))["logs"])
