"""What every request passes before its route runs: token, scope, Idempotency-Key, rate limit; in that order.

Before the body is parsed, and in the route's class rather than in dependencies, which FastAPI calls only after it.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from sqlalchemy import Row

from api import idempotency, reposts
from api.access import Access, Bucket, access_of
from api.auth import authenticate, permit
from api.body import JsonRequest, JsonRoute
from api.state import State
from core.ids import new_id
from core.people import audit

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(JsonRoute):
    """The class of every route under /v1."""

    def get_route_handler(self) -> Handler:
        access = access_of(self.endpoint)
        handle = super().get_route_handler()

        async def gated(request: Request) -> Response:
            return await _pass(JsonRequest.of(request), access, handle)

        return handle if access.scope is None else gated


async def _pass(request: Request, access: Access, handle: Handler) -> Response:
    state: State = request.app.state.millrace
    caller = await authenticate(state, request.headers.get("authorization"))
    permit(caller, access.scope)
    request.state.caller = caller
    # Whoever it is that connects: what headers say of others, anybody may say.
    actor = audit.by_token(caller, request.client and request.client.host)

    async def proceed() -> Response:
        await _admit(state, caller, access.bucket, request)
        with audit.acting(actor):
            return await handle(request)

    return await _creating(state, caller, access, request, proceed) if access.creates else await proceed()


async def _admit(state: State, caller: Row, bucket: Bucket, request: Request) -> None:
    # The middleware shows it, on refusals and errors as well.
    request.scope["millrace.ratelimit"] = await state.limits.take(caller.id, bucket)


async def _creating(
    state: State, caller: Row, access: Access, request: Request, proceed: Callable[[], Awaitable[Response]]
) -> Response:
    """Gives what is about to be made its id, which is an earlier one if this request has been here before."""
    request.state.new_id = new_id()
    key = request.headers.get("idempotency-key")
    if key is not None:
        return await idempotency.once(state, caller.id, access, request, key, proceed)
    if access.bucket is Bucket.CREATES:
        return await reposts.guard(state, caller.token_id, request, proceed)
    return await proceed()
