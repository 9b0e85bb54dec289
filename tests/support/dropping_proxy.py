"""A proxy that breaks connections: it passes a request on, and hangs up before the answer, as often as it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 65536


class DroppingProxy:
    """`before_drop` is awaited once the request has been passed on; then both ends are cut."""

    def __init__(self, port: int, drops: int, before_drop: Callable[[], Awaitable[None]]) -> None:
        self._upstream_port = port
        self._left = drops
        self._before_drop = before_drop
        self.connections = 0
        self.port = 0

    async def _serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        self.connections += 1
        upstream, request = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        pumps = [asyncio.create_task(_pump(client, request))]
        try:
            if self._left:
                self._left -= 1
                await self._before_drop()
            else:
                pumps.append(asyncio.create_task(_pump(upstream, answer)))
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            request.transport.abort()
            answer.transport.abort()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(_CHUNK_BYTES):
            target.write(chunk)
            await target.drain()


@asynccontextmanager
async def dropping(port: int, drops: int, before_drop: Callable[[], Awaitable[None]]) -> AsyncIterator[DroppingProxy]:
    """In front of what listens on that port of 127.0.0.1."""
    proxy = DroppingProxy(port, drops, before_drop)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
