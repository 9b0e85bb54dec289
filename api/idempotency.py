"""`Idempotency-Key`: the same request again gets the same answer, and makes nothing twice. In no official client.

A refused request (4xx, a throttled one too) releases its key. One that broke on our side, or found what it was to make
there already, keeps it: an earlier try may have made it, and the next one with that key must not make another.
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
        if _is_refusal(error):
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


def _is_refusal(error: Exception) -> bool:
    status = error.status if isinstance(error, MillraceError) else getattr(error, "status_code", 422)
    return status < 500 and status != Conflict.status
