"""`Idempotency-Key`: the same request again gets the same answer, and makes nothing twice. In no official client.

A request that is wrong releases its key. Any other outcome without an answer keeps it: a twin, an earlier try, or this
one may have made something, and the next try with that key makes no other; it is no obstacle to the same request.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.access import Access
from api.state import State
from core import idempotency
from core.errors import BadRequest, Conflict, MillraceError

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_WRONG = (400, 404, 413, 415, 422)
_REPLAYED = {"Idempotent-Replayed": "true"}


async def once(
    state: State,
    account_id: str,
    access: Access,
    request: Request,
    key: str,
    proceed: Callable[[], Awaitable[Response]],
) -> Response:
    """The answer of `proceed`, or the one it gave before. Raises `Conflict` if the key stands for another request."""
    if not _KEY.fullmatch(key):
        raise BadRequest("An Idempotency-Key is 1 to 255 printable ASCII characters without spaces.")
    digest = await _digest(request)
    async with state.database.autocommit() as tx:
        claimed = await idempotency.claim(
            tx, account_id, key, digest, request.state.new_id, state.settings.idempotency_seconds
        )
    if claimed.request_hash != digest:
        raise Conflict(f"The Idempotency-Key {key} was used with another request; use a new key for a new request.")
    if claimed.answer is not None:
        return Response(claimed.answer, claimed.status, _REPLAYED, claimed.content_type)
    request.state.new_id = claimed.resource_id
    try:
        response = await proceed()
    except (MillraceError, HTTPException, RequestValidationError) as error:
        if _is_wrong(error):
            async with state.database.autocommit() as tx:
                await idempotency.release(tx, claimed)
        raise
    async with state.database.autocommit() as tx:
        body = bytes(response.body) if access.keeps_answer else None
        await idempotency.answer(tx, claimed, response.status_code, response.headers.get("content-type", ""), body)
    return response


async def _digest(request: Request) -> bytes:
    """What makes two requests the same. Multipart bodies do not count: each try has another boundary."""
    digest = hashlib.sha256(f"{request.method} {request.url.path}\n".encode())
    if not request.headers.get("content-type", "").startswith("multipart/"):
        digest.update(await request.body())
    return digest.digest()


def _is_wrong(error: Exception) -> bool:
    """Whether the same request can never make anything; not so one that was throttled, or came without credit."""
    status = error.status if isinstance(error, MillraceError) else getattr(error, "status_code", 422)
    return status in _WRONG
