"""Errors as pages: what the api would say as JSON, said to a person instead. Under /v1 it stays JSON."""

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from api.state import State
from api.web.cookies import Cookies
from api.web.views import View

#: Headers that say something about the body which the page replaces.
_OF_THE_BODY = ("content-length", "content-type")


def install(app: FastAPI) -> None:
    """Around every handler there is: each still decides what went wrong, and with which status."""
    for error, handle in list(app.exception_handlers.items()):
        app.add_exception_handler(error, _for_people(handle))


def wants_page(request: Request) -> bool:
    is_api = request.url.path == "/v1" or request.url.path.startswith("/v1/")
    return not is_api and "text/html" in request.headers.get("accept", "")


def _for_people(handle: Callable[..., Any]) -> Callable[..., Any]:
    async def answer(request: Request, error: Exception) -> Response:
        response = handle(request, error)
        response = await response if asyncio.iscoroutine(response) else response
        return _page(request, response) if wants_page(request) else response

    return answer


def _page(request: Request, response: Response) -> Response:
    problem = orjson.loads(response.body)
    state: State = request.app.state.millrace
    view = View(request, Cookies(state.settings), None)
    page = view.render("error.html", status=response.status_code, problem=problem)
    page.headers.update({k: v for k, v in response.headers.items() if k not in _OF_THE_BODY})
    return page
