"""Which processes an `up` started, on disk, so that the next one can end what a kill -9 left behind.

A process is known by its pid and the moment it was created, never by its name: pids are used again.
"""

import asyncio
import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

# A node that drains may take longer, but whoever starts again wants to go on: its predictions are rescued.
_GRACE_SECONDS = 10.0
# The kernel counts from the boot, whose moment shifts a little when the clock is set.
_SAME_MOMENT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Recorded:
    name: str
    pid: int
    created: float
    stop_signal: int

    def find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.created) < _SAME_MOMENT_SECONDS
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class ProcessRecord:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._recorded: dict[str, Recorded] = {}

    def add(self, name: str, pid: int, stop_signal: int) -> None:
        try:
            created = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return  # It ended before it could be looked at; whoever awaits it says so.
        self._recorded[name] = Recorded(name, pid, created, stop_signal)
        self._write()

    def remove(self, name: str) -> None:
        self._recorded.pop(name, None)
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps([asdict(recorded) for recorded in self._recorded.values()]))
        unfinished.replace(self._path)

    def leftovers(self) -> list[Recorded]:
        """Those of an earlier `up` that still run, in the order in which they were started."""
        if not self._path.exists():
            return []
        recorded = [Recorded(**entry) for entry in json.loads(self._path.read_text())]
        return [one for one in recorded if one.find()]


async def end(leftovers: Sequence[Recorded]) -> None:
    """Asks each to stop, the last started first, and kills what does not within the grace."""
    for one in reversed(leftovers):
        if (process := one.find()) is not None:
            await end_process(process, signal.Signals(one.stop_signal))


async def end_process(process: psutil.Process, stop_signal: signal.Signals = signal.SIGTERM) -> None:
    try:
        process.send_signal(stop_signal)
        await asyncio.to_thread(process.wait, _GRACE_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait, _GRACE_SECONDS)
    except psutil.NoSuchProcess:
        return
