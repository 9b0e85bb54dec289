"""Whoever waits for the end of a container hears of it at once, also where the engine was away meanwhile."""

import asyncio
import queue
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from worker.runtimes import departures
from worker.runtimes.departures import Departures, until_gone

WAIT_SECONDS = 30


class Stream:
    """What an engine says: ids of containers that end, until None, when the connection is lost."""

    def __init__(self) -> None:
        self.said: queue.Queue[str | None] = queue.Queue()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (id := self.said.get()) is not None:
            yield {"Actor": {"ID": id}}

    def close(self) -> None:
        self.said.put(None)


async def settled(waiting: asyncio.Task) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        await waiting


async def test_the_end_of_a_process_is_heard_of_though_it_is_no_child_of_ours() -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid, flush=True)"
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    pid = int(await parent.stdout.readline())
    waiting = asyncio.create_task(until_gone(pid, lambda: True))
    await parent.wait()
    assert not waiting.done()
    killer = await asyncio.create_subprocess_exec("kill", "-9", str(pid))
    await killer.wait()
    await settled(waiting)


async def test_a_pid_that_is_somebody_elses_by_now_is_not_waited_for() -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        await until_gone(1, lambda: False)


async def test_who_waits_for_a_container_hears_of_its_end_and_of_no_others() -> None:
    stream = Stream()
    heard = Departures(lambda: stream)
    # It begins with a look at everything.
    await settled(asyncio.create_task(heard.of("any")))
    first, second = asyncio.create_task(heard.of("first")), asyncio.create_task(heard.of("second"))
    try:
        await asyncio.sleep(0)
        stream.said.put("first")
        await settled(first)
        assert not second.done()
    finally:
        second.cancel()
        heard.close()


async def test_after_the_engine_was_away_everybody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "_RETRY_SECONDS", 0.01)
    streams = [Stream(), Stream()]
    coming = iter(streams)
    heard = Departures(lambda: next(coming))
    await settled(asyncio.create_task(heard.of("any")))
    waiting = asyncio.create_task(heard.of("any"))
    await asyncio.sleep(0)
    streams[0].close()
    await settled(waiting)
    heard.close()
