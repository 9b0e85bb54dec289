"""Reading bodies: at most so many bytes, and JSON by orjson.

Pure ASGI, because Starlette's own middleware base class costs a task per request.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.strict_json import read_json

#: A multipart upload is its file and a little around it.
_MULTIPART_OVERHEAD_BYTES = 1024 * 1024
#: Where uploads are taken, and read as a stream. All else is read into memory.
_UPLOADS = "/v1/files"


class BodyLimit:
    """Refuses bodies over the limit: before the first byte where their length is told, else without reading on."""

    def __init__(self, app: ASGIApp, json_bytes: int, upload_bytes: int) -> None:
        self._app = app
        self._json_bytes = json_bytes
        self._upload_bytes = upload_bytes + _MULTIPART_OVERHEAD_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_upload = scope["path"] == _UPLOADS and headers.get("content-type", "").startswith("multipart/")
        limit = self._upload_bytes if is_upload else self._json_bytes
        told = int(headers.get("content-length", 0))
        received = 0

        async def limited() -> Message:
            nonlocal received
            if told <= limit:
                message = await receive()
                received += len(message.get("body", b""))
                if received <= limit:
                    return message
            # The server passes over what is left unread: many a client looks for the answer only after sending all.
            raise HTTPException(413, f"The body is larger than {limit} bytes, the most this server accepts.")

        await self._app(scope, limited, send)


class JsonRequest(Request):
    """Keeps the body it has read, so that whoever looks at it first leaves it to the others."""

    @classmethod
    def of(cls, request: Request) -> "JsonRequest":
        return request if isinstance(request, cls) else cls(request.scope, request.receive)

    async def json(self) -> Any:
        return read_json(await self.body())


class JsonRoute(APIRoute):
    """Parses bodies with orjson."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def parse_with_orjson(request: Request) -> Response:
            return await handle(JsonRequest.of(request))

        return parse_with_orjson
