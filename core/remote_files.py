"""The file store of another machine, spoken to by HTTP over a Unix socket: what `FileStore` needs of a store, no more.

Who listens there, and how it gets to that machine, is not its business. But the way there may be cut for a while, so
what could not be asked is asked again.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from core.clock import monotonic
from core.errors import Unavailable
from core.log import get_logger

log = get_logger()

SCHEME = "unix://"
# A store that says nothing for so long is not there; a file may take as long as it needs.
_SILENCE = aiohttp.ClientTimeout(total=None, connect=15, sock_read=60)
#: Twice a node's lease: whoever is cut off for longer has lost what it ran.
_PATIENCE_SECONDS = 40.0
_PAUSE_SECONDS = 0.5
#: So much of a file is held in memory while it is on its way; more, on the disk.
_IN_MEMORY_BYTES = 1024 * 1024
_CHUNK_BYTES = 256 * 1024


class RemoteStore:
    """Raises `FileNotFoundError` where there is no such file, `Unavailable` in the store's words where it takes none,
    and another `OSError` where it does not answer."""

    def __init__(self, url: str) -> None:
        self._socket = Path(url.removeprefix(SCHEME))

    async def put_async(self, key: str, content: AsyncIterator[bytes] | bytes | Path) -> None:
        """Chunks are collected first: they come once, and may have to be sent twice."""
        if isinstance(content, bytes):
            return await self._put(key, lambda: content)
        if isinstance(content, Path):
            with content.open("rb") as file:
                return await self._put(key, lambda: _from_its_beginning(file))
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=self._socket.parent) as file:
            async for chunk in content:
                file.write(chunk)
            return await self._put(key, lambda: _from_its_beginning(file))

    async def get_async(self, key: str) -> "_Found":
        return await self._asked("GET", key)

    async def head_async(self, key: str) -> None:
        await (await self._asked("HEAD", key)).close()

    async def delete_async(self, key: str) -> None:
        await (await self._asked("DELETE", key)).close()

    async def _put(self, key: str, body: Callable[[], Any]) -> None:
        await (await self._asked("PUT", key, body)).close()

    async def _asked(self, method: str, key: str, body: Callable[[], Any] = lambda: None) -> "_Found":
        """The answer, from whoever gives one before patience ends; each of these may be asked twice."""
        deadline = monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return await self._ask(method, key, body())
            except ConnectionError as error:
                if monotonic() > deadline:
                    raise
                log.warning("file store not answering, will try again", method=method, key=key, error=str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask(self, method: str, key: str, data: Any) -> "_Found":
        async with AsyncExitStack() as stack:
            try:
                connector = aiohttp.UnixConnector(str(self._socket))
                session = aiohttp.ClientSession(connector=connector, timeout=_SILENCE, auto_decompress=False)
                await stack.enter_async_context(session)
                response = await stack.enter_async_context(session.request(method, f"http://files/{key}", data=data))
                said = (await response.text()).strip() if response.status >= 400 else ""
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _does_not_answer(error) from error
            if response.status == 404:
                raise FileNotFoundError(key)
            if response.status == 503:
                raise Unavailable(said)
            if response.status >= 400:
                raise OSError(f"The file store refuses {method} {key}: {said or response.status}")
            return _Found(stack.pop_all(), response, lambda: self._asked(method, key))
        raise AssertionError("a stack swallows nothing")


class _Found:
    """An answer, and the file that it brings, if any; whoever asked reads it once, or closes it.

    A file never changes, so that one whose way was cut is asked for `again` and read on from where it broke off.
    """

    def __init__(
        self, stack: AsyncExitStack, response: aiohttp.ClientResponse, again: Callable[[], Awaitable["_Found"]]
    ) -> None:
        self._stack = stack
        self._response = response
        self._again = again

    async def close(self) -> None:
        await self._stack.aclose()

    async def bytes_async(self) -> bytes:
        return b"".join([chunk async for chunk in self.stream(_CHUNK_BYTES)])

    async def stream(self, min_chunk_size: int) -> AsyncIterator[bytes]:
        found, passed = self, 0
        while True:
            began_at, seen = passed, 0
            async with found._stack:
                try:
                    async for chunk in found._response.content.iter_chunked(min_chunk_size):
                        rest = chunk[max(passed - seen, 0) :]
                        seen += len(chunk)
                        if rest:
                            passed += len(rest)
                            yield rest
                    return
                except (aiohttp.ClientError, TimeoutError) as error:
                    if passed == began_at:
                        raise _does_not_answer(error) from error
            found = await self._again()


async def _from_its_beginning(file: Any) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def _does_not_answer(error: Exception) -> ConnectionError:
    return ConnectionError(f"The file store does not answer: {error!r}")
