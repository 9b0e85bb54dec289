"""Clients that post again by themselves: what the first post made is what the second one gets.

JavaScript posts up to six times at once when its connection breaks, each time a new prediction; Python 2.x twice more
after its time-out, and says so. Equal requests that were answered are never taken for one another.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import Request, Response
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.state import State
from core.log import get_logger
from core.redis import created_key, dropped_key

log = get_logger()

#: JavaScript posts again at once.
_DROPPED_SECONDS = 10
#: Python 2.x gives up after 60 s, and pauses for up to 8.
_CREATED_SECONDS = 180
_RETRY_COUNT = "x-stainless-retry-count"


async def guard(state: State, token_id: str, request: Request, proceed: Callable[[], Awaitable[Response]]) -> Response:
    """Runs `proceed` with the id that an earlier, unanswered post of the same request has."""
    redis = state.resources.redis
    digest = await _digest(token_id, request)
    request.state.new_id = await _adopt(redis, digest, request) or request.state.new_id
    async with _noticing_disconnect(redis, digest, request):
        return await proceed()


async def _digest(token_id: str, request: Request) -> str:
    digest = hashlib.sha256(f"{token_id} {request.url.path} {request.headers.get('prefer')}\n".encode())
    digest.update(await request.body())
    return digest.hexdigest()


async def _adopt(redis: Redis, digest: str, request: Request) -> str | None:
    """The id of the post that this one repeats."""
    count = request.headers.get(_RETRY_COUNT)
    pipeline = redis.pipeline(transaction=False)
    pipeline.getdel(dropped_key(digest))
    if count == "0":
        pipeline.set(created_key(digest), request.state.new_id, ex=_CREATED_SECONDS)
    elif count is not None:
        pipeline.get(created_key(digest))
    try:
        dropped, *created = await pipeline.execute()
    except (RedisError, OSError) as error:
        log.warning("posts again are not noticed", error=str(error))
        return None
    return dropped or (created[0] if created and count != "0" else None)


@asynccontextmanager
async def _noticing_disconnect(redis: Redis, digest: str, request: Request) -> AsyncIterator[None]:
    """Leaves the id for whoever posts the same again, if the client is gone before it is answered."""
    watching = asyncio.create_task(_leave_when_gone(redis, digest, request))
    try:
        yield
    finally:
        watching.cancel()


async def _leave_when_gone(redis: Redis, digest: str, request: Request) -> None:
    # The body has been read, so nothing else comes than the end of the connection.
    while (await request.receive())["type"] != "http.disconnect":
        continue
    try:
        await redis.set(dropped_key(digest), request.state.new_id, ex=_DROPPED_SECONDS)
    except (RedisError, OSError) as error:
        log.warning("a dropped post is not remembered", error=str(error))
