"""Reading bodies: at most so many bytes, JSON by orjson, and the alias under which some clients call.

Pure ASGI, because Starlette's own middleware base class costs a task per request.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: A multipart upload is its file and a little around it.
_MULTIPART_OVERHEAD_BYTES = 1024 * 1024
#: orjson reads 1024 levels and writes 254: what is read must still be written with a page of others around it.
_DEEPEST = 200


class BodyLimit:
    """Refuses bodies over the limit as soon as that is known, without reading on."""

    def __init__(self, app: ASGIApp, json_bytes: int, upload_bytes: int) -> None:
        self._app = app
        self._json_bytes = json_bytes
        self._upload_bytes = upload_bytes + _MULTIPART_OVERHEAD_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "DELETE"):
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"].endswith("/files")
        limit = self._upload_bytes if is_upload else self._json_bytes
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, f"The body is larger than {limit} bytes, the most this server accepts.")
            return message

        await self._app(scope, limited, send)


class VersionAlias:
    """`/v1/v1/…` is `/v1/…`: Python 1.x adds /v1 to the base URL, every other client expects it there already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/v1/"):
            scope = {**scope, "path": scope["path"][3:], "raw_path": scope["raw_path"][3:]}
        await self._app(scope, receive, send)


class _OrjsonRequest(Request):
    async def json(self) -> Any:
        # Unlike the standard library's parser this one refuses NaN and lone surrogates.
        body = await self.body()
        document = orjson.loads(body)
        if body.count(b"[") + body.count(b"{") > _DEEPEST:
            refuse_deep_nesting(document)
        return document


def refuse_deep_nesting(document: Any) -> None:
    """Raises `HTTPException`; what a body reader raises becomes `HTTPException` in any case."""
    level = [document]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise HTTPException(400, f"The body is nested more than {_DEEPEST} levels deep.")


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


class JsonRoute(APIRoute):
    """Parses bodies with orjson."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def parse_with_orjson(request: Request) -> Response:
            return await handle(_OrjsonRequest(request.scope, request.receive))

        return parse_with_orjson
