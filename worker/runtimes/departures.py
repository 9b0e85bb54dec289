"""Who has ended, told at once by the kernel or an engine. Knows no containers, only pids and ids.

A hint: whoever hears it looks for himself, and looks now and then without one.
"""

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, Protocol

from core.log import get_logger

log = get_logger()

#: After the engine did not answer, the next try; meanwhile looking finds what ends.
_RETRY_SECONDS = 1.0


async def until_gone(pid: int, is_ours: Callable[[], bool]) -> None:
    """`is_ours` tells whether the process is still the one that is meant: pids are used again."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    try:
        if is_ours():
            loop.add_reader(descriptor, gone.set)
            await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


class Stream(Protocol):
    """Events of an engine, until it is closed or the engine is gone."""

    def __iter__(self) -> Iterable[dict[str, Any]]: ...

    def close(self) -> None: ...


class Departures:
    """`listen` opens a stream of the containers that end; it is read in a thread, for the engine's client blocks."""

    def __init__(self, listen: Callable[[], Stream]) -> None:
        self._listen = listen
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = threading.Event()
        self._stream: Stream | None = None

    async def of(self, container_id: str) -> None:
        """Returns when it has ended, or when that may have been missed."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._read, name="departures", daemon=True).start()
        ended = asyncio.Event()
        self._waiting[container_id].add(ended)
        try:
            await ended.wait()
        finally:
            self._waiting[container_id].discard(ended)
            if not self._waiting[container_id]:
                del self._waiting[container_id]

    def close(self) -> None:
        self._closed.set()
        if self._stream is not None:
            self._stream.close()

    def _read(self) -> None:
        while not self._closed.is_set():
            try:
                with closing(self._listen()) as self._stream:
                    self._tell(None)
                    for event in self._stream:
                        self._tell(event["Actor"]["ID"])
            except Exception as error:  # A thread that ends in silence would be missed by nobody.
                if not self._closed.is_set():
                    log.warning("ends of containers not heard, will try again", error=str(error))
            self._closed.wait(_RETRY_SECONDS)

    def _tell(self, container_id: str | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._wake, container_id)
        except RuntimeError:
            self._closed.set()  # The loop has ended, and with it whoever waited.

    def _wake(self, container_id: str | None) -> None:
        """None: something may have ended while nobody listened."""
        for id in [*self._waiting] if container_id is None else [container_id]:
            for ended in self._waiting.get(id, ()):
                ended.set()
