"""A node whose program is replaced while it works: SIGHUP. What runs goes on as if nothing had happened."""

import asyncio
import base64
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
from sqlalchemy import Row, func, select, update

from core import fleet
from core.ids import new_id
from core.lifecycle import FailureCode
from core.tables import Instance, Node, UsageRecord
from tests.faults.load import all_ended, rows_of, until
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform
from tests.support.receiver import Receiver

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("prepared", ["process"], indirect=True)]

COG_YAML = 'build:\n  python_version: "3.11"\n  sdk_version: "{version}"\npredict: "predict.py:Predictor"\n'
NEWEST, OLDER = "0.23.1", "0.16.12"
#: Both run until they are told to end, so that they run while the node restarts, however long that takes.
TALKER = '''"""Counts until a file appears."""

import time
from collections.abc import Iterator

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):
    def predict(self, sign: str = Input(default="")) -> Iterator[str]:
        index = 0
        while index == 0 or not Path(sign).exists():
            print(f"log {index}", flush=True)
            time.sleep(0.1)
            yield f"chunk {index}"
            index += 1
'''
WRITER = '''"""Says nothing; writes a file when another one appears."""

import time

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):
    def predict(self, sign: str = Input(default="")) -> Path:
        while not Path(sign).exists():
            time.sleep(0.02)
        path = Path("late.txt")
        path.write_text("late, but whole")
        return path
'''
MODELS = {"talker": (TALKER, NEWEST), "older-talker": (TALKER, OLDER), "writer": (WRITER, NEWEST)}


@pytest.fixture
async def platform(broken: Platform) -> Platform:
    """With the models of this module, each on an Instance that is up."""
    folder = broken.settings.data / "projects"
    missing = {name: what for name, what in MODELS.items() if not (folder / name).exists()}
    published = [
        await broken.publish(
            PROJECTS / "chatty", name, files={"predict.py": source, "cog.yaml": COG_YAML.format(version=version)}
        )
        for name, (source, version) in missing.items()
    ]
    await broken.wait_ready(*published)
    runs = [await Run.begin(broken, name) for name in MODELS]
    for run in runs:
        run.end()
    assert {row.status for row in await all_ended(broken, [run.id for run in runs])} == {"succeeded"}
    return broken


@dataclass(frozen=True, slots=True)
class Run:
    """A prediction that ends when it is told to."""

    id: str
    sign: Path
    stream_url: str | None

    @classmethod
    async def begin(cls, platform: Platform, model: str, **fields: Any) -> Self:
        sign = platform.settings.data / f"sign-{new_id()}"
        created = await platform.client.create(f"millrace/{model}", {"sign": str(sign)}, **fields)
        return cls(created["id"], sign, created["urls"].get("stream"))

    def end(self) -> None:
        self.sign.touch()


async def test_what_runs_ends_as_if_nothing_had_happened(platform: Platform, receiver: Receiver) -> None:
    life, pid = await boot_id(platform), platform.processes["node"].pid
    runs = {name: await Run.begin(platform, name, webhook=receiver.url) for name in MODELS}
    listening = asyncio.create_task(heard(platform, runs["talker"].stream_url))
    await platform.client.until(runs["writer"].id, "processing")
    await until(partial(has_spoken, platform, runs["talker"].id))
    await until(partial(has_spoken, platform, runs["older-talker"].id))
    waiting = await Run.begin(platform, "writer", webhook=receiver.url)
    waiting.end()
    with recovery("node's program replaced"):
        await replace(platform)
        await platform.client.finished(waiting.id)
    ids = [waiting.id, *(run.id for run in runs.values())]
    running = await rows_of(platform, ids[1:])
    assert {row.status for row in running} == {"processing"}
    for run in runs.values():
        run.end()
    rows = {row.id: row for row in await all_ended(platform, ids)}
    assert {(row.status, row.attempt, row.error) for row in rows.values()} == {("succeeded", 1, None)}
    assert_all_was_told(rows[runs["talker"].id])
    assert_all_was_told(rows[runs["older-talker"].id])
    assert rows[runs["talker"].id].output == await listening
    assert await written(platform, runs["writer"].id) == "late, but whole"
    assert (await boot_id(platform), platform.processes["node"].pid) == (life, pid)
    # What was idle may have made room meanwhile.
    now = await instances(platform)
    assert {now.get(row.instance_id) for row in running} == {"ready"}
    await assert_paid_once_and_whole(platform, list(rows.values()))
    await check_invariants(platform, ids, receiver)


async def test_again_and_again_with_a_cancel_and_an_upload_in_between(platform: Platform, receiver: Receiver) -> None:
    runs = {name: await Run.begin(platform, name, webhook=receiver.url) for name in MODELS}
    await platform.client.until(runs["writer"].id, "processing")
    await until(partial(has_spoken, platform, runs["talker"].id))
    await until(partial(has_spoken, platform, runs["older-talker"].id))
    await replace(platform)
    before = ups(platform)
    platform.processes["node"].send(signal.SIGHUP)
    await until(partial(is_being_replaced, platform))
    # From here on nobody is there, or about to be nobody.
    runs["writer"].end()
    await platform.client.cancel(runs["talker"].id)
    runs["older-talker"].end()
    await until(partial(has_come_up, platform, before + 1))
    rows = {row.id: row for row in await all_ended(platform, [run.id for run in runs.values()])}
    talker, older, writer = (rows[runs[name].id] for name in MODELS)
    assert (talker.status, older.status, writer.status) == ("canceled", "succeeded", "succeeded")
    assert {row.attempt for row in rows.values()} == {1}
    assert_all_was_told(older)
    assert await written(platform, writer.id) == "late, but whole"
    await assert_paid_once_and_whole(platform, list(rows.values()))
    await check_invariants(platform, [*rows], receiver)


async def test_where_the_lease_is_lost_in_between_what_had_spoken_fails_and_the_rest_runs_again(
    platform: Platform, receiver: Receiver
) -> None:
    talker = await Run.begin(platform, "talker", webhook=receiver.url)
    writer = await Run.begin(platform, "writer", webhook=receiver.url)
    await platform.client.until(writer.id, "processing")
    await until(partial(has_spoken, platform, talker.id))
    life, before = await boot_id(platform), ups(platform)
    platform.processes["node"].send(signal.SIGHUP)
    await until(partial(is_being_replaced, platform))
    await revoke(platform)
    await until(partial(has_come_up, platform, before + 1))
    writer.end()
    rows = {row.id: row for row in await all_ended(platform, [talker.id, writer.id])}
    assert (rows[talker.id].status, rows[talker.id].failure_code) == ("failed", FailureCode.NODE_LOST)
    assert (rows[writer.id].status, rows[writer.id].attempt) == ("succeeded", 2)
    assert await boot_id(platform) != life
    await check_invariants(platform, [*rows], receiver)


async def test_what_a_draining_instance_may_no_longer_run_fails_or_runs_elsewhere(
    platform: Platform, receiver: Receiver
) -> None:
    talker = await Run.begin(platform, "talker", webhook=receiver.url)
    writer = await Run.begin(platform, "writer", webhook=receiver.url)
    await platform.client.until(writer.id, "processing")
    await until(partial(has_spoken, platform, talker.id))
    async with platform.resources.database.transaction() as tx:
        for row in await rows_of(platform, [talker.id, writer.id]):
            assert await fleet.drain_instance(tx, row.instance_id, 1.0, "Its time is over.")
    await until(partial(is_tried_again, platform, writer.id))
    writer.end()
    rows = {row.id: row for row in await all_ended(platform, [talker.id, writer.id])}
    assert (rows[talker.id].status, rows[talker.id].failure_code) == ("failed", FailureCode.NODE_LOST)
    assert (rows[writer.id].status, rows[writer.id].attempt) == ("succeeded", 2)
    await check_invariants(platform, [*rows], receiver)


async def is_tried_again(platform: Platform, id: str) -> bool:
    [row] = await rows_of(platform, [id])
    return row.status == "starting" or row.attempt > 1


# --- restarting -------------------------------------------------------------------------------------------------------


async def replace(platform: Platform) -> None:
    """Until the new program is at work."""
    before = ups(platform)
    platform.processes["node"].send(signal.SIGHUP)
    await until(partial(has_come_up, platform, before + 1))


def ups(platform: Platform) -> int:
    return said(platform).count("node is up")


async def has_come_up(platform: Platform, times: int) -> bool:
    assert platform.processes["node"].is_running, platform.processes["node"].tail()
    return ups(platform) >= times


async def is_being_replaced(platform: Platform) -> bool:
    return said(platform).rfind("is replaced by") > said(platform).rfind("node is up")


def said(platform: Platform) -> str:
    return platform.processes["node"].log.read_text(errors="replace")


async def revoke(platform: Platform) -> None:
    """As if it had been silent for too long."""
    async with platform.resources.database.transaction() as tx:
        await tx.execute(update(Node).values(lease_expires_at=func.now(), boot_id=""))


# --- what runs, and what it said --------------------------------------------------------------------------------------


def assert_all_was_told(row: Row) -> None:
    """Every chunk and every line once, in order."""
    assert row.output == [f"chunk {index}" for index in range(len(row.output))]
    lines = [line for line in row.logs.splitlines() if line.startswith("log ")]
    assert lines == [f"log {index}" for index in range(len(row.output))]


async def written(platform: Platform, id: str) -> str:
    """The file that it has for its output."""
    output = (await platform.client.get(id))["output"]
    head, _, content = output.partition(",")
    assert head == "data:text/plain;base64"
    return base64.b64decode(content).decode()


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
                break
    return chunks


async def has_spoken(platform: Platform, id: str) -> bool:
    return bool((await platform.client.get(id))["logs"])


# --- what is on record ------------------------------------------------------------------------------------------------


async def instances(platform: Platform) -> dict[str, str]:
    async with platform.resources.database.autocommit() as tx:
        return {row.id: row.status for row in await tx.all(select(Instance.id, Instance.status))}


async def boot_id(platform: Platform) -> str:
    async with platform.resources.database.autocommit() as tx:
        return await tx.scalar(select(Node.boot_id))


async def assert_paid_once_and_whole(platform: Platform, rows: Sequence[Row]) -> None:
    """From its start to its end, by the database's clock; the node's says the same but for what writing it took."""
    async with platform.resources.database.autocommit() as tx:
        records = await tx.all(select(UsageRecord).where(UsageRecord.cause_id.in_([row.id for row in rows])))
    seconds = {row.id: (row.completed_at - row.started_at).total_seconds() for row in rows}
    assert {record.cause_id: record.micros / 1e6 for record in records} == pytest.approx(seconds, abs=2.0)
    assert len(records) == len(rows)
