"""The file store of another machine, spoken to by HTTP over a Unix socket: what `FileStore` needs of a store, no more.

Who listens there, and how it gets to that machine, is not its business.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

SCHEME = "unix://"
# A store that says nothing for so long is not there; a file may take as long as it needs.
_SILENCE = aiohttp.ClientTimeout(total=None, connect=15, sock_read=60)


class RemoteStore:
    """Raises `FileNotFoundError` where there is no such file, and another `OSError` where the store does not answer."""

    def __init__(self, url: str) -> None:
        self._socket = url.removeprefix(SCHEME)

    async def put_async(self, key: str, content: AsyncIterator[bytes] | bytes | Path) -> None:
        if isinstance(content, Path):
            with content.open("rb") as file:
                await self._put(key, file)
        elif isinstance(content, bytes):
            await self._put(key, content)
        else:
            passed = _Passed(content)
            try:
                await self._put(key, aiter(passed))
            except OSError:
                if passed.refusal is not None:
                    raise passed.refusal from None
                raise

    async def _put(self, key: str, data: object) -> None:
        async with self._ask("PUT", key, data):
            return

    async def get_async(self, key: str) -> "_Found":
        stack = AsyncExitStack()
        return _Found(stack, await stack.enter_async_context(self._ask("GET", key)))

    async def head_async(self, key: str) -> None:
        async with self._ask("HEAD", key):
            return

    async def delete_async(self, key: str) -> None:
        async with self._ask("DELETE", key):
            return

    @asynccontextmanager
    async def _ask(self, method: str, key: str, data: object = None) -> AsyncIterator[aiohttp.ClientResponse]:
        connector = aiohttp.UnixConnector(self._socket)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_SILENCE, auto_decompress=False) as session,
                session.request(method, f"http://files/{key}", data=data) as response,
            ):
                if response.status == 404:
                    raise FileNotFoundError(key)
                if response.status >= 400:
                    said = (await response.text()).strip()
                    raise OSError(f"The file store refuses {method} {key}: {said or response.status}")
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionError(f"The file store does not answer: {error!r}") from error


class _Found:
    """A file that is being fetched; whoever asked for it reads it, once."""

    def __init__(self, stack: AsyncExitStack, response: aiohttp.ClientResponse) -> None:
        self._stack = stack
        self._response = response

    async def bytes_async(self) -> bytes:
        async with self._stack:
            return await self._response.read()

    async def stream(self, min_chunk_size: int) -> AsyncIterator[bytes]:
        async with self._stack:
            async for chunk in self._response.content.iter_chunked(min_chunk_size):
                yield chunk


class _Passed:
    """Content on its way, and why it stopped where its source broke: aiohttp would only say that it did."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content
        self.refusal: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._content:
                yield chunk
        except Exception as error:
            self.refusal = error
            raise
