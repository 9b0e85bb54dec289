"""Every error as one shape: application/problem+json with a string `detail`; Swift and Go decode nothing else.

Nothing of the framework's default shapes remains.
"""

from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from redis.exceptions import RedisError
from sqlalchemy import exc as sql
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from core.errors import (
    Invalid,
    InvalidField,
    InvalidInput,
    MillraceError,
    NotFound,
    Unavailable,
    UnsupportedMediaType,
)
from core.log import get_logger

log = get_logger()

#: A backing service is away or too slow. A statement that is wrong is our own mistake, and a 500.
_AWAY = (sql.OperationalError, sql.InterfaceError, sql.DisconnectionError, sql.TimeoutError, RedisError)
_TITLES = {400: "Bad request", 404: "Not found", 405: "Method not allowed", 413: "Payload too large"}
#: pydantic's word: Replicate's, for the fields of a request's body.
_FIELD_TYPES = {
    "missing": "required",
    "extra_forbidden": "additional_property_not_allowed",
    "string_too_short": "string_gte",
    "string_too_long": "string_lte",
    "greater_than_equal": "number_gte",
    "less_than_equal": "number_lte",
}


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None, **extra: Any) -> Response:
    document = {"title": title, "detail": detail, "status": status, **extra}
    return Response(orjson.dumps(document), status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    app.add_exception_handler(MillraceError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _cut_off)
    app.add_exception_handler(sql.DataError, _unstorable)
    for away in _AWAY:
        app.add_exception_handler(away, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: MillraceError) -> Response:
    return problem(error.status, error.title, error.detail, error.headers, **error.members)


async def _invalid_request(request: Request, error: RequestValidationError) -> Response:
    if isinstance(error.body, bytes):  # Left unread, because of what its type is said to be.
        return await _ours(request, UnsupportedMediaType())
    # FastAPI's frame holds the error and the error that frame: the body would stay until the garbage collector comes.
    error.with_traceback(None)
    return await _ours(request, InvalidInput([_field(item) for item in error.errors()]))


def _field(item: dict[str, Any]) -> InvalidField:
    kind = _FIELD_TYPES.get(item["type"], "invalid_type" if item["type"].endswith("_type") else item["type"])
    path = [str(part) for part in item["loc"][1:]]
    if kind == "required":
        return InvalidField(kind, ".".join(path[:-1]), f"{path[-1] if path else 'A JSON body'} is required")
    if kind == "additional_property_not_allowed":
        return InvalidField(kind, ".".join(path[:-1]), f"Additional property {path[-1]} is not allowed")
    return InvalidField(kind, ".".join(path), item["msg"])


async def _http(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return await _ours(request, NotFound(f"There is nothing at {request.url.path}."))
    if error.status_code == 405:
        methods = ", ".join(_methods(request))
        detail = f"{request.url.path} does not take {request.method}, but {methods}."
        return problem(405, _TITLES[405], detail, {"Allow": methods})
    title = _TITLES.get(error.status_code, "Request failed")
    return problem(error.status_code, title, str(error.detail), dict(error.headers or {}))


def _methods(request: Request) -> list[str]:
    """Those of every route at its path, the most exact one: the framework names those of the first route."""
    found = [
        route for route in iter_route_contexts(request.app.routes) if route.path_regex.match(request.scope["path"])
    ]
    path = min((route.path_format for route in found), key=lambda path: path.count("{"))
    return sorted({method for route in found if route.path_format == path for method in route.methods})


async def _cut_off(request: Request, error: ClientDisconnect) -> Response:
    # Nobody is there to read it; without an answer it would be logged as a fault of ours.
    return problem(400, _TITLES[400], "The connection was closed before the body had come.")


async def _unstorable(request: Request, error: sql.DataError) -> Response:
    return await _ours(
        request, Invalid("The request holds a character or a number that cannot be stored, such as NUL.")
    )


async def _unavailable(request: Request, error: Exception) -> Response:
    log.error("backing service failed", path=request.url.path, error=str(error))
    return await _ours(request, Unavailable())


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("request broke", path=request.url.path, exc_info=error)
    return problem(500, MillraceError.title, "Something went wrong on our side; the server's log has the details.")
