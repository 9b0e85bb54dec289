"""Keeps processes running: starts them, says when one ends and starts it again, and stops them in order.

Knows neither what they do nor how they are started.
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cli.launching import Launchable, Running
from cli.leftovers import ProcessRecord
from core.clock import monotonic

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 15.0
# Whatever ran this long did not fail at its start: the next delay is the first again.
_STEADY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """`before_start` clears what an earlier life left in the way; `hurry_signal` follows when the grace is over. At
    `renew_signal` it loads its code anew by itself, and goes on with what it was doing."""

    name: str
    what: Launchable
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    hurry_signal: signal.Signals = signal.SIGKILL
    before_start: Callable[[], None] = lambda: None
    renew_signal: signal.Signals | None = None


@dataclass(slots=True)
class _Kept:
    service: Service
    running: Running
    deaths: int = 0
    keeper: asyncio.Task[None] = field(init=False)


class Supervisor:
    def __init__(self, record: ProcessRecord, logs: Path, tell: Callable[[str], None]) -> None:
        self._record = record
        self._logs = logs
        self._tell = tell
        self._kept: dict[str, _Kept] = {}
        self._hurried = asyncio.Event()
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def start(self, service: Service) -> None:
        """Starts it and keeps it running until it is stopped."""
        log = self.log(service.name)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        kept = _Kept(service, await self._launch(service))
        kept.keeper = asyncio.create_task(self._keep(kept))
        self._kept[service.name] = kept

    async def renew(self, name: str) -> None:
        """Goes on with it as it is on disk now."""
        kept = self._kept[name]
        kept.deaths = 0
        if kept.service.renew_signal is not None:
            kept.running.send_signal(kept.service.renew_signal)
        else:
            await self._stop(kept)
            kept.running = await self._launch(kept.service)
            kept.keeper = asyncio.create_task(self._keep(kept))

    async def stop_all(self) -> None:
        """One after the other, the last started first: whoever serves stops before what it depends on."""
        for name in reversed([*self._kept]):
            await self._stop(self._kept.pop(name))

    @property
    def is_idle(self) -> bool:
        return not self._kept

    def hurry(self) -> None:
        """Nobody wants to wait for the grace any more."""
        self._hurried.set()

    def deaths(self, name: str) -> int:
        return self._kept[name].deaths

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    async def _launch(self, service: Service) -> Running:
        service.before_start()
        running = await service.what.launch(service.name, self.log(service.name))
        self._record.add(service.name, running.pid, service.stop_signal)
        return running

    async def _keep(self, kept: _Kept) -> None:
        name, delay = kept.service.name, _FIRST_DELAY_SECONDS
        while True:
            started = monotonic()
            how = await kept.running.wait()
            kept.deaths += 1
            if monotonic() - started > _STEADY_SECONDS:
                delay = _FIRST_DELAY_SECONDS
            self._tell(f"{name} ended ({how}: {self.log(name)}) and starts again in {delay:g} s.")
            delay = await self._start_again(kept, delay)

    async def _start_again(self, kept: _Kept, delay: float) -> float:
        """Until it can be started at all. Returns how long to wait the next time."""
        while True:
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
            try:
                kept.running = await self._launch(kept.service)
                return delay
            except OSError as error:
                self._tell(f"{kept.service.name} cannot be started ({error}); the next try is in {delay:g} s.")

    async def _stop(self, kept: _Kept) -> None:
        kept.keeper.cancel()
        await asyncio.wait([kept.keeper])
        running, service = kept.running, kept.service
        running.send_signal(service.stop_signal)
        if not await self._ends(running, service.grace_seconds):
            self._tell(f"{service.name} has not stopped yet and is killed.")
            running.send_signal(service.hurry_signal)
            await running.wait()
        self._record.remove(service.name)

    async def _ends(self, running: Running, seconds: float) -> bool:
        """Whether it ends within its grace, and before somebody hurries us."""
        ended = asyncio.create_task(running.wait())
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            ended.cancel()
            return False
        return True
