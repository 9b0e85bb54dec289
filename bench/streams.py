"""How late a chunk reaches its listener with many streams open on one api process, and what they cost while silent.

`make bench-streams` runs it. Chunks are written as a node writes them; time runs from there to the listener's socket.
"""

import argparse
import asyncio
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from bench import alone
from bench.alone import Alone
from core import streams, wire
from core.ids import new_id
from core.people import accounts
from core.resources import Resources, open_resources
from core.settings import Settings
from core.tables import Prediction

_GREETING_SECONDS = 60
_CHUNK_SECONDS = 10
_AT_ONCE = 1_000_000
_ROLES = ("api", "redis", "postgres")
_DEAF_CHUNKS, _DEAF_BATCH, _DEAF_CHUNK = 40_000, 100, "x" * 1_000


@dataclass(slots=True)
class Listener(asyncio.Protocol):
    """Reads one stream; knows when it was greeted and when the next output came."""

    prediction_id: str
    greeted: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    heard_at: float = 0.0

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        self.greeted.set()
        if b"event: output" in data and not self.heard.is_set():
            self.heard_at = now
            self.heard.set()


async def listen(settings: Settings, prediction_id: str) -> Listener:
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_connection(lambda: Listener(prediction_id), "127.0.0.1", settings.port)
    transport.write(_request(settings, prediction_id))
    return listener


def _request(settings: Settings, prediction_id: str) -> bytes:
    path = f"/v1/streams/{wire.stream_capability(settings, prediction_id)}"
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode()


async def running_predictions(resources: Resources, count: int) -> list[str]:
    """Rows as of predictions that some node runs."""
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, "streamer", "Streamer")
        common = {
            "account_id": account.id,
            "model": "bench/model",
            "version_id": "0" * 64,
            "target": "version:bench",
            "hardware_sku": "cpu",
            "status": "processing",
            "stream_kind": "text",
            "input": {},
        }
        ids = [new_id() for _ in range(count)]
        await tx.execute(insert(Prediction), [{"id": id, **common} for id in ids])
    return ids


async def delays_ms(redis: Redis, listeners: Sequence[Listener], per_second: float) -> list[float]:
    """Says one chunk to each, so many a second; sorted milliseconds from there to its listener."""
    for listener in listeners:
        listener.heard.clear()
    began = time.perf_counter()
    said: dict[str, float] = {}

    async def say(number: int, listener: Listener) -> None:
        await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
        said[listener.prediction_id] = time.perf_counter()
        await streams.extend(redis, listener.prediction_id, [f"word {number} "])

    await asyncio.gather(*(say(number, listener) for number, listener in enumerate(listeners)))
    async with asyncio.timeout(_CHUNK_SECONDS):
        await asyncio.gather(*(listener.heard.wait() for listener in listeners))
    return sorted((listener.heard_at - said[listener.prediction_id]) * 1000 for listener in listeners)


async def be_deaf(api: Alone, redis: Redis, prediction_id: str) -> socket.socket:
    """Asks for a stream, says more to it than any socket holds, and reads none of it."""
    deaf = socket.create_connection(("127.0.0.1", api.settings.port))
    deaf.sendall(_request(api.settings, prediction_id))
    for _ in range(_DEAF_CHUNKS // _DEAF_BATCH):
        await streams.extend(redis, prediction_id, [_DEAF_CHUNK] * _DEAF_BATCH)
    return deaf


async def cost(api: Alone, seconds: float) -> dict[str, float]:
    """Shares of one processor, by role, over so many seconds."""
    before, began = api.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(seconds)
    passed, after = time.perf_counter() - began, api.cpu_seconds()
    return {role: (after[role] - before[role]) / passed for role in _ROLES}


async def measure(api: Alone, resources: Resources, arguments: argparse.Namespace, console: Console) -> None:
    *ids, deaf_id = await running_predictions(resources, arguments.streams + 1)
    alone_bytes = api.memory_bytes("api")
    listeners = [await listen(api.settings, id) for id in ids]
    async with asyncio.timeout(_GREETING_SECONDS):
        await asyncio.gather(*(listener.greeted.wait() for listener in listeners))
    # As many connections to Redis as it takes are opened now, and not while the first chunks are on their way.
    await delays_ms(resources.redis, listeners, _AT_ONCE)
    delays = Table("chunks per second", "p50 ms", "p95 ms", "max ms", title=f"{len(ids)} open streams, a chunk to each")
    for rate in arguments.rates:
        for _ in range(arguments.rounds):
            delays.add_row(f"{rate:,.0f}", *_percentiles(await delays_ms(resources.redis, listeners, rate)))
    open_bytes = api.memory_bytes("api")
    idle = await cost(api, arguments.idle)
    deaf = await be_deaf(api, resources.redis, deaf_id)
    for _ in range(arguments.rounds):
        found = await delays_ms(resources.redis, listeners, arguments.rates[0])
        delays.add_row(f"{arguments.rates[0]:,.0f}, one is deaf", *_percentiles(found))
    deaf_bytes = api.memory_bytes("api")
    deaf.close()
    console.print(delays)
    shares = ", ".join(f"{role} {share:.1%}" for role, share in idle.items())
    console.print(f"While they are silent, of one processor: {shares}.")
    console.print(
        f"Memory of the api: {_mib(alone_bytes)}, with the streams {_mib(open_bytes)}, "
        f"and with one that leaves {_DEAF_CHUNKS * len(_DEAF_CHUNK) >> 20} MiB unread {_mib(deaf_bytes)}."
    )


def _percentiles(sorted_ms: list[float]) -> list[str]:
    return [f"{sorted_ms[min(len(sorted_ms) - 1, int(share * len(sorted_ms)))]:.1f}" for share in (0.5, 0.95, 1)]


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


async def _main(arguments: argparse.Namespace) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder,
        alone.running(Path(folder), arguments.port) as api,
    ):
        async with open_resources(api.settings) as resources:
            await measure(api, resources, arguments, Console(width=110))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--rates", type=float, nargs="+", default=[100, 500, _AT_ONCE], help="chunks per second")
    parser.add_argument("--idle", type=float, default=20, help="seconds to measure silence")
    parser.add_argument("--rounds", type=int, default=3)
    uvloop.run(_main(parser.parse_args()))
