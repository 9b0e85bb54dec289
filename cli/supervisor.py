"""Keeps processes running: starts them, says when one ends and starts it again, and stops them in order.

Knows nothing of what they do. Each has a session of its own, so that Ctrl-C reaches only us, and is asked to stop by
the kernel should we be killed.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cli.leftovers import ProcessRecord
from core.clock import monotonic

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 15.0
# Whatever ran this long did not fail at its start: the next delay is the first again.
_STEADY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Service:
    """`privileges` are options of setpriv(1); `before_start` clears what an earlier life left in the way."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    privileges: Sequence[str] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    hurry_signal: signal.Signals = signal.SIGKILL
    before_start: Callable[[], None] = lambda: None


@dataclass(slots=True)
class _Kept:
    service: Service
    process: asyncio.subprocess.Process
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
        kept = _Kept(service, await self._spawn(service))
        kept.keeper = asyncio.create_task(self._keep(kept))
        self._kept[service.name] = kept

    async def stop_all(self) -> None:
        """One after the other, the last started first: whoever serves stops before what it depends on."""
        for name in reversed([*self._kept]):
            await self._stop(self._kept.pop(name))

    def hurry(self) -> None:
        """Nobody wants to wait for the grace any more."""
        self._hurried.set()

    def deaths(self, name: str) -> int:
        return self._kept[name].deaths

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    async def _spawn(self, service: Service) -> asyncio.subprocess.Process:
        service.before_start()
        # setpriv sets the signal after the user: the kernel forgets it when the user changes.
        command = ("setpriv", "--pdeathsig", "TERM", *service.privileges, *service.command)
        with self.log(service.name).open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(service.environment),
                start_new_session=True,
            )
        self._record.add(service.name, process.pid, service.stop_signal)
        return process

    async def _keep(self, kept: _Kept) -> None:
        name, delay = kept.service.name, _FIRST_DELAY_SECONDS
        while True:
            started = monotonic()
            status = await kept.process.wait()
            kept.deaths += 1
            if monotonic() - started > _STEADY_SECONDS:
                delay = _FIRST_DELAY_SECONDS
            self._tell(f"{name} ended ({_how(status)}) and starts again in {delay:g} s; see {self.log(name)}.")
            delay = await self._start_again(kept, delay)

    async def _start_again(self, kept: _Kept, delay: float) -> float:
        """Until it can be started at all. Returns how long to wait the next time."""
        while True:
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY_SECONDS)
            try:
                kept.process = await self._spawn(kept.service)
                return delay
            except OSError as error:
                self._tell(f"{kept.service.name} cannot be started ({error}); the next try is in {delay:g} s.")

    async def _stop(self, kept: _Kept) -> None:
        kept.keeper.cancel()
        await asyncio.wait([kept.keeper])
        process, service = kept.process, kept.service
        if process.returncode is None:
            _signal(process, service.stop_signal)
            if not await self._ends(process, service.grace_seconds):
                self._tell(f"{service.name} has not stopped yet and is killed.")
                _signal(process, service.hurry_signal)
                await process.wait()
        self._record.remove(service.name)

    async def _ends(self, process: asyncio.subprocess.Process, seconds: float) -> bool:
        """Whether it ends within its grace, and before somebody hurries us."""
        ended = asyncio.create_task(process.wait())
        hurried = asyncio.create_task(self._hurried.wait())
        await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            ended.cancel()
            return False
        return True


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    try:
        if number == signal.SIGKILL:
            os.killpg(process.pid, number)  # What it started in its own session goes with it.
        else:
            process.send_signal(number)
    except ProcessLookupError:
        return  # It ended meanwhile, which is what we want.


def _how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
