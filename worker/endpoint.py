"""The node's own HTTP server, called by model containers: output files and posts in, input files out.

Knows no prediction: what to do with a file is decided by the two functions it is given. Every path begins with a
secret, and a container is told only the paths that carry its own instance id, or what it was called before it had one.
"""

import asyncio
import hmac
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from urllib.parse import quote

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from worker.cog import HookInbox

# A post carries all output and logs so far.
MAX_HOOK_BYTES = 64 * 1024 * 1024
# Long enough for a last upload to end, short enough for a node to stop.
CLOSE_SECONDS = 5.0
# Before its listening socket is handed on: an upload may take 25 s, which is when Cog gives it up.
LEAVE_SECONDS = 25.0
# A connection that has just been accepted gets this long to say what it wants.
HEARING_SECONDS = 0.05
CHUNK_BYTES = 256 * 1024
MAX_NAME_CHARACTERS = 200
UNNAMED = "output"

SaveUpload = Callable[[str, str | None, str, str, AsyncIterator[bytes]], Awaitable[str]]
"""(instance id, prediction id as the container claims it, file name, content type, body) to a unique URL.

May raise UploadRefused. Newest and classic Cog send the prediction id, Cog 0.17 to 0.22 does not.
"""
OpenInput = Callable[[str], Awaitable[tuple[str, int, AsyncIterator[bytes]] | None]]
"""Token to content type, size and body; None for a token it does not know."""


class UploadRefused(Exception):
    """The file will not be stored; the message tells the model's author why."""


class Endpoint:
    """`callback_host` is the name by which containers reach this machine. Port 0 takes a free one.

    A port and a secret that are kept let the next life of a node hear the containers of this one. `listener` is what
    `leave` has left: nobody who called meanwhile was refused.
    """

    def __init__(
        self,
        *,
        save: SaveUpload,
        open_input: OpenInput,
        host: str,
        callback_host: str,
        port: int = 0,
        secret: str | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self._save = save
        self._open_input = open_input
        self._host = host
        self._callback_host = callback_host
        self._port = port
        self._secret = secret or secrets.token_urlsafe(32)
        self._listener = listener
        self._inboxes: dict[str, HookInbox] = {}
        self._aliases: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self._busy = 0
        self._quiet = asyncio.Event()

    async def start(self) -> None:
        app = web.Application(client_max_size=MAX_HOOK_BYTES, middlewares=[self._count])
        app.router.add_put(r"/{secret}/uploads/{alias}/{filename:[\s\S]*}", self._upload)
        app.router.add_post("/{secret}/hooks/{instance_id}/{prediction_id}", self._hook)
        app.router.add_get("/{secret}/inputs/{token}/{name}", self._input)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await self._runner.setup()
        if self._listener is None:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            self._listener = socket.create_server((self._host, self._port), family=family)
        await web.SockSite(self._runner, self._listener.dup()).start()
        self._port = self._listener.getsockname()[1]

    async def close(self) -> None:
        if self._runner:
            await self._runner.cleanup()
        if self._listener:
            self._listener.close()

    async def leave(self) -> socket.socket:
        """Accepts nobody any more and answers who was; then returns what new callers wait at."""
        for site in self._runner.sites:
            await site.stop()
        await asyncio.sleep(HEARING_SECONDS)
        self._quiet.clear()
        if self._busy:
            with suppress(TimeoutError):  # What is cut off then, its container has given up, too.
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._quiet.wait()
        await self._runner.cleanup()
        return self._listener

    @property
    def url(self) -> str:
        """With the secret, without a trailing slash."""
        host = f"[{self._callback_host}]" if ":" in self._callback_host else self._callback_host
        return f"http://{host}:{self._port}/{self._secret}"

    @property
    def uploads_url(self) -> str:
        """Each container has a folder there, of the name by which it calls itself."""
        return f"{self.url}/uploads"

    def upload_url(self, alias: str) -> str:
        """For `--upload-url`: containers add the file's name to it."""
        return f"{self.uploads_url}/{alias}/"

    def input_url(self, token: str, name: str) -> str:
        """Cog names the model's copy of the file after the last part."""
        return f"{self.url}/inputs/{token}/{quote(name, safe='') or UNNAMED}"

    def inbox(self, instance_id: str) -> HookInbox:
        """Where the posts of this Instance arrive, until `forget`."""
        return self._inboxes.setdefault(instance_id, HookInbox(f"{self.url}/hooks/{instance_id}"))

    def introduce(self, alias: str, instance_id: str) -> None:
        """What calls itself `alias` is the container of this Instance, until `forget`."""
        self._aliases[alias] = instance_id

    def forget(self, instance_id: str) -> None:
        self._inboxes.pop(instance_id, None)
        self._aliases = {alias: id for alias, id in self._aliases.items() if id != instance_id}

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._busy += 1
        try:
            return await handler(request)
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()

    async def _upload(self, request: web.Request) -> web.Response:
        self._authorize(request)
        alias = request.match_info["alias"]
        try:
            location = await self._save(
                self._aliases.get(alias, alias),
                request.headers.get("X-Prediction-ID"),
                _safe_name(request.match_info["filename"]),
                request.content_type,
                request.content.iter_chunked(CHUNK_BYTES),
            )
        except UploadRefused as refusal:
            raise web.HTTPRequestEntityTooLarge(0, text=str(refusal)) from refusal
        return web.Response(status=201, headers={"Location": location})

    async def _hook(self, request: web.Request) -> web.Response:
        self._authorize(request)
        try:
            body = orjson.loads(await request.read())
        except ValueError as error:
            raise web.HTTPBadRequest(text="The body is not JSON.") from error
        if inbox := self._inboxes.get(request.match_info["instance_id"]):
            inbox.deliver(request.match_info["prediction_id"], body)
        return web.Response()

    async def _input(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        found = await self._open_input(request.match_info["token"])
        if found is None:
            raise web.HTTPNotFound
        content_type, size, body = found
        response = web.StreamResponse(headers={"Content-Type": content_type})
        response.content_length = size
        await response.prepare(request)
        async for chunk in body:
            await response.write(chunk)
        await response.write_eof()
        return response

    def _authorize(self, request: web.Request) -> None:
        if not hmac.compare_digest(request.match_info["secret"].encode(), self._secret.encode()):
            raise web.HTTPNotFound


def _safe_name(path: str) -> str:
    """The last part of what the container says, without anything a header or a path could trip over."""
    name = "".join(character for character in path.rsplit("/", 1)[-1] if character.isprintable() and character != "\\")
    return UNNAMED if name in ("", ".", "..") else name[-MAX_NAME_CHARACTERS:]
