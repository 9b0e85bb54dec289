"""Two ways to start a process: a program of its own, or a Python module forked from one that is loaded already.

Either has its own session, writes to its log, and is sent SIGTERM by the kernel should we be killed.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Running(Protocol):
    """A process that was started."""

    pid: int

    async def wait(self) -> str:
        """Returns once it has ended, with what is known of how."""

    def send_signal(self, number: signal.Signals) -> None:
        """Does nothing if it has ended."""


class Launchable(Protocol):
    async def launch(self, name: str, log: Path) -> Running: ...


@dataclass(frozen=True, slots=True)
class Program:
    """`privileges` are options of setpriv(1)."""

    command: Sequence[str]
    environment: Mapping[str, str]
    privileges: Sequence[str] = ()

    async def launch(self, name: str, log: Path) -> Running:
        # setpriv sets the signal after the user: the kernel forgets it when the user changes.
        command = ("setpriv", "--pdeathsig", "TERM", *self.privileges, *self.command)
        with log.open("ab") as output:
            return _Child(
                await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=dict(self.environment),
                    start_new_session=True,
                )
            )


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self._process = process

    async def wait(self) -> str:
        status = await self._process.wait()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def send_signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)


class Forge:
    """`cli.forge`, started when it is first needed, and again should it have died."""

    def __init__(self, environment: Mapping[str, str], log: Path, ready_file: Path) -> None:
        self._environment = environment
        self._log = log
        self._ready_file = ready_file
        self._process: asyncio.subprocess.Process | None = None
        self._forks: list[_Fork] = []
        self._older: list[tuple[asyncio.subprocess.Process, list[_Fork]]] = []
        self._one_order = asyncio.Lock()

    async def warm_up(self) -> None:
        """Starts loading, and does not wait for it."""
        if self._process is not None and self._process.returncode is None:
            return
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "cli.forge", str(self._ready_file)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env=dict(self._environment),
                start_new_session=True,
            )

    async def fork(self, name: str, module: str, arguments: Sequence[str], log: Path) -> Running:
        """Raises `OSError` where the forge does not answer."""
        order = {"name": name, "module": module, "arguments": list(arguments), "log": str(log)}
        async with self._one_order:
            await self.warm_up()
            assert self._process is not None
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._process.stdin.drain()
            answer = await self._process.stdout.readline()
        if not answer:
            raise ChildProcessError(f"the process that forks the others ended; see {self._log}")
        fork = _Fork(int(answer))
        self._forks.append(fork)
        return fork

    async def renew(self) -> None:
        """What is forked from now on has the code as it is now. The forge of a living process lives as long as that."""
        async with self._one_order:
            if self._process is not None:
                self._older.append((self._process, self._forks))
                self._process, self._forks = None, []
            for process, forks in [*self._older]:
                if all(fork.has_ended for fork in forks):
                    self._older.remove((process, forks))
                    await _kill(process)
            await self.warm_up()

    async def close(self) -> None:
        for process in (self._process, *(process for process, _ in self._older)):
            if process is not None:
                await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


@dataclass(frozen=True, slots=True)
class Module:
    """`python -m <name> <arguments>`, with the forge's environment."""

    forge: Forge
    name: str
    arguments: Sequence[str] = ()

    async def launch(self, name: str, log: Path) -> Running:
        return await self.forge.fork(name, self.name, self.arguments, log)


class _Fork:
    """Not our child, so its exit status is not ours to know; a pidfd tells that it has ended, and cannot mistake it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._ended = asyncio.Event()
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended.set()
        else:
            asyncio.get_running_loop().add_reader(self._fd, self._end)

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._ended.set()

    async def wait(self) -> str:
        await self._ended.wait()
        return "its log may say why"

    def send_signal(self, number: signal.Signals) -> None:
        if not self._ended.is_set():
            try:
                signal.pidfd_send_signal(self._fd, number)
            except ProcessLookupError:
                return  # It has ended, and the loop is about to learn of it.
