"""A real webhook receiver on loopback, which answers as it is told and keeps what it got."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from multidict import CIMultiDictProxy

_WAIT_SECONDS = 30.0
#: Whoever posts gets tired of it long before.
SILENCE, _SILENT_SECONDS = 0, 600.0


@dataclass(frozen=True, slots=True)
class Received:
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def prediction(self) -> dict[str, Any]:
        return orjson.loads(self.body)


@dataclass(slots=True)
class ScriptedReceiver:
    """`answers` are used up one by one; then it is 200. A 3xx points back at the receiver, at /elsewhere; `SILENCE` is
    none at all."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def answer(self, statuses: Iterable[int]) -> None:
        self.answers = list(statuses)

    def of(self, prediction_id: str) -> list[Received]:
        return [got for got in self.received if got.prediction["id"] == prediction_id]

    async def until(self, count: int) -> list[Received]:
        """What came so far, once there are so many."""
        async with asyncio.timeout(_WAIT_SECONDS):
            while len(self.received) < count:
                self._came.clear()
                await self._came.wait()
        return list(self.received)

    async def until_ended(self) -> list[Received]:
        """What came so far, once a prediction has come that has ended."""
        count = 1
        while (received := await self.until(count))[-1].prediction["completed_at"] is None:
            count = len(received) + 1
        return received

    async def handle(self, request: web.Request) -> web.Response:
        self.received.append(Received(request.path_qs, request.headers, await request.read()))
        self._came.set()
        status = self.answers.pop(0) if self.answers else 200
        if status == SILENCE:
            await asyncio.sleep(_SILENT_SECONDS)
        headers = {"Location": f"{self.url}/elsewhere"} if 300 <= status < 400 else None
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def receiving() -> AsyncIterator[ScriptedReceiver]:
    receiver = ScriptedReceiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        receiver.url = f"http://127.0.0.1:{port}"
        yield receiver
    finally:
        await runner.cleanup()
