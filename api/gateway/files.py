"""The file store for nodes, where it is a folder of this machine: GET, HEAD, PUT and DELETE of `<folder>/<name>`.

Listens on a socket in a folder that nobody else may enter; who may speak to it is the gateway's business. A store in a
cloud has its own door, which nodes use like everybody.
"""

import re
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from api.gateway.upstreams import Upstream
from core.errors import NotFound, Unavailable
from core.files import FileStore
from core.resources import Resources

#: What nodes read and write. No key has more than these two parts, and no part begins with a dot.
_KEY = re.compile(r"(?:uploads|outputs|bundles)/[0-9A-Za-z][0-9A-Za-z._-]{0,127}", re.ASCII)
_CHUNK_BYTES = 1024 * 1024
# A model's output may be as large as the disk; each account's limits are held by who stores it.
_LARGEST = 2**63 - 1
_CLOSE_SECONDS = 3.0


@asynccontextmanager
async def serving_files(resources: Resources) -> AsyncIterator[Upstream | None]:
    """None where the store is not a folder."""
    url = resources.settings.file_store_url
    if not url.startswith("file://"):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="millrace-gateway-") as folder:
        path = str(Path(folder) / "files.sock")
        runner = web.AppRunner(_app(resources.files), access_log=None, shutdown_timeout=_CLOSE_SECONDS)
        await runner.setup()
        try:
            await web.UnixSite(runner, path).start()
            yield Upstream(path=path)
        finally:
            await runner.cleanup()


def _app(files: FileStore) -> web.Application:
    app = web.Application(client_max_size=_LARGEST)
    served = _Files(files)
    for method, handler in {"HEAD": served.head, "GET": served.get, "PUT": served.put, "DELETE": served.delete}.items():
        app.router.add_route(method, "/{key:.*}", handler)
    return app


class _Files:
    def __init__(self, files: FileStore) -> None:
        self._files = files

    async def head(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if await self._files.has(_key(request)) else 404)

    async def get(self, request: web.Request) -> web.StreamResponse:
        try:
            chunks = await self._files.stream(_key(request))
        except NotFound as error:
            raise web.HTTPNotFound(text=error.detail) from None
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
        return response

    async def put(self, request: web.Request) -> web.Response:
        """Whole or not at all: a body that breaks off leaves nothing."""
        try:
            await self._files.put(_key(request), request.content.iter_chunked(_CHUNK_BYTES))
        except Unavailable as error:
            raise web.HTTPServiceUnavailable(text=error.detail) from None
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.Response:
        await self._files.delete(_key(request))
        return web.Response(status=204)


def _key(request: web.Request) -> str:
    """As it was sent, so that nothing hides behind an escape."""
    key = request.raw_path.removeprefix("/")
    if not _KEY.fullmatch(key):
        raise web.HTTPForbidden(text=f"{key[:200]!r} is not the key of a file.")
    return key
