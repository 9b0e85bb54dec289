"""A network of its own for one process, with one way out, which a test cuts and mends. Needs root, `ip`, `iptables`.

What is cut is lost without a word, as when a cable is pulled: no reset, no error, until somebody gives up.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from core.ids import new_id

_CHUNK_BYTES = 65536
#: What is the destination on the way out is the source on the way in.
_ANSWER = {"--dport": "--sport", "-d": "-s", "-o": "-i"}


@dataclass(frozen=True, slots=True)
class Network:
    """`outside` is the address of the test's side."""

    name: str
    outside: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """Before the command of whoever is to live there."""
        # Not by `ip netns exec`, which mounts another /sys, without the control groups that containers need.
        return ("nsenter", f"--net=/var/run/netns/{self.name}")

    @contextmanager
    def cut_off(self, *rule: str) -> Iterator[None]:
        """Loses what goes out and fits the rule, and the answers to it."""
        answers = [_ANSWER.get(word, word) for word in rule]
        rules = [("OUTPUT", *rule), ("INPUT", *answers)]
        for each in rules:
            self._run("iptables", "-A", *each, "-j", "DROP")
        try:
            yield
        finally:
            for each in rules:
                self._run("iptables", "-D", *each, "-j", "DROP")

    def _run(self, *command: str) -> None:
        _run(*self.prefix, *command)


def missing() -> str | None:
    """Why there can be none; None where there can."""
    if os.geteuid() != 0:
        return "Only root makes network namespaces."
    without = [command for command in ("ip", "iptables", "nsenter") if not shutil.which(command)]
    return f"Not installed: {', '.join(without)}." if without else None


@contextmanager
def network() -> Iterator[Network]:
    id = new_id()
    name, inner, outer = f"mr{id[-8:]}", f"mi{id[-8:]}", f"mo{id[-8:]}"
    # Of 198.18.0.0/15, which is for tests of networks.
    number = int.from_bytes(os.urandom(2))
    outside, inside = (f"198.18.{number % 256}.{number // 256 % 64 * 4 + host}" for host in (1, 2))
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
        _run("ip", "address", "add", f"{outside}/30", "dev", outer)
        _run("ip", "link", "set", outer, "up")
        made = Network(name, outside)
        made._run("ip", "address", "add", f"{inside}/30", "dev", inner)
        for device in ("lo", inner):
            made._run("ip", "link", "set", device, "up")
        yield made
    finally:
        _run("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@asynccontextmanager
async def relay(address: str, port: int, socket: Path) -> AsyncIterator[None]:
    """Passes what connects there on to a Unix socket."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            # Where nobody listens, the client is hung up on.
            with suppress(OSError):
                upstream, request = await asyncio.open_unix_connection(str(socket))
                await _pump_both([(client, request), (upstream, answer)])
                request.transport.abort()
        finally:
            answer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, address, port)
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump_both(pairs: Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    pumps = [asyncio.create_task(_pump(*pair)) for pair in pairs]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(_CHUNK_BYTES):
            target.write(chunk)
            await target.drain()
