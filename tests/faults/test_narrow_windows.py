"""A node killed in the moments that last microseconds: with a prediction off the queue and not started, and with a
result that is not written yet. Postgres stands still meanwhile, which makes them last."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import aiohttp
import orjson
import psutil
import pytest

from core import queue
from tests.faults.load import all_ended, rows_of, until
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import Platform
from tests.support.receiver import Receiver

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("prepared", ["process"], indirect=True)]

#: Long enough to let Postgres stand still before its end.
RUN_SECONDS = 2.0


async def test_what_was_taken_off_the_queue_by_a_node_that_dies_before_it_starts_it_runs(
    broken: Platform, receiver: Receiver
) -> None:
    target = await _warm(broken)
    with _still(broken.processes["node"].pid):
        created = await _create(broken, receiver, "taken", 0)
        postgres = _family(broken.processes["postgres"].pid)
        _suspend(postgres)
    try:
        await until(partial(_is_taken, broken, target))
        await broken.kill("node")
    finally:
        _resume(postgres)
    with recovery("node killed between queue and start"):
        await broken.restart("node")
        [row] = await all_ended(broken, [created])
    assert (row.status, row.output) == ("succeeded", "taken")
    await check_invariants(broken, [created], receiver)


async def test_what_somebody_took_off_the_queue_and_forgot_is_queued_again(
    broken: Platform, receiver: Receiver
) -> None:
    """Nothing but the row knows of it any more."""
    target = await _warm(broken)
    with _still(broken.processes["node"].pid):
        created = await _create(broken, receiver, "forgotten", 0)
        assert await queue.take(broken.resources.redis, target, 10) == [created]
    [row] = await all_ended(broken, [created])
    assert (row.status, row.output, row.attempt) == ("succeeded", "forgotten", 1)
    await check_invariants(broken, [created], receiver)


async def test_a_result_that_its_node_took_to_the_grave_is_made_once_more_and_charged_once(
    broken: Platform, receiver: Receiver
) -> None:
    await _warm(broken)
    created = await _create(broken, receiver, "made", RUN_SECONDS)
    await broken.client.until(created, "processing")
    [row] = await rows_of(broken, [created])
    postgres = _family(broken.processes["postgres"].pid)
    _suspend(postgres)
    try:
        await until(partial(_is_idle, broken, row.instance_id))
        await broken.kill("node")
    finally:
        _resume(postgres)
    with recovery("node killed between result and row"):
        await broken.restart("node")
        [row] = await all_ended(broken, [created])
    assert (row.status, row.output) == ("succeeded", "made")
    await check_invariants(broken, [created], receiver)


async def _warm(platform: Platform) -> str:
    """The target of `sleeper`, which has an Instance that waits for work."""
    created = await platform.client.create("millrace/sleeper", {"seconds": 0})
    await platform.client.finished(created["id"])
    [row] = await rows_of(platform, [created["id"]])
    return row.target


async def _create(platform: Platform, receiver: Receiver, text: str, seconds: float) -> str:
    created = await platform.client.create(
        "millrace/sleeper",
        {"text": text, "seconds": seconds},
        webhook=receiver.url,
        webhook_events_filter=["completed"],
    )
    return created["id"]


async def _is_taken(platform: Platform, target: str) -> bool:
    return not await queue.depth(platform.resources.redis, target)


async def _is_idle(platform: Platform, instance_id: str) -> bool:
    """As its container says itself: whoever could write its end to the row has it, or is about to."""
    record = orjson.loads((platform.settings.data / "instances" / instance_id / "container.json").read_bytes())
    async with aiohttp.request("GET", f"http://127.0.0.1:{record['port']}/health-check") as response:
        return (await response.json())["status"] == "READY"


# --- standing still ---------------------------------------------------------------------------------------------------


@contextmanager
def _still(pid: int) -> Iterator[None]:
    process = psutil.Process(pid)
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _suspend(family: list[psutil.Process]) -> None:
    # The parent first, so that it makes no others.
    for process in family:
        process.suspend()


def _resume(family: list[psutil.Process]) -> None:
    for process in family:
        process.resume()
