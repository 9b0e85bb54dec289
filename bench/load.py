"""A closed loop: so many workers, each with one connection, each sending its next call when the last is answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.http import Connection

Call = Callable[[Connection], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds per call, sorted; seconds for all of them; CPU seconds of the system under test."""

    delays_ms: list[float]
    wall_seconds: float
    cpu_seconds: float

    def percentile(self, share: float) -> float:
        return self.delays_ms[min(len(self.delays_ms) - 1, int(share * len(self.delays_ms)))]

    @property
    def rate(self) -> float:
        return len(self.delays_ms) / self.wall_seconds

    @property
    def cpu_ms(self) -> float:
        return self.cpu_seconds / len(self.delays_ms) * 1000


async def run(url: str, call: Call, concurrency: int, calls: int, cpu_seconds: Callable[[], float]) -> Measured:
    connections = [await Connection.open(url) for _ in range(concurrency)]
    left = iter(range(calls))
    delays: list[float] = []

    async def work(connection: Connection) -> None:
        for _ in left:
            began = time.perf_counter()
            await call(connection)
            delays.append((time.perf_counter() - began) * 1000)

    cpu, began = cpu_seconds(), time.perf_counter()
    await asyncio.gather(*map(work, connections))
    wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    for connection in connections:
        connection.close()
    return Measured(sorted(delays), wall, cpu)
