"""Clients that post again by themselves: what the first post made is what the second one gets.

JavaScript posts up to six times at once when its connection breaks, each time a new prediction; Python 2.x twice more
after its time-out, and says so. Equal requests of which the first was answered, or still waits, are two requests.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request, Response
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.state import State
from core.log import get_logger
from core.redis import created_key, post_key

log = get_logger()

#: JavaScript posts again at once.
_DROPPED_SECONDS = 10
#: Longer than any answer is held.
_HELD_SECONDS = 90
#: Python 2.x gives up after 60 s, and pauses for up to 8.
_CREATED_SECONDS = 180
#: A post may overtake the news that the connection of the one before it has broken, by a few milliseconds.
_NEWS_SECONDS = 0.2
_LOOK_SECONDS = 0.01

_RETRY_COUNT = "x-stainless-retry-count"
_HASTY = "replicate-javascript/"
_HELD, _DROPPED = "held", "dropped"


async def guard(state: State, token_id: str, request: Request, proceed: Callable[[], Awaitable[Response]]) -> Response:
    """Runs `proceed` with the id that an earlier, unanswered post of the same request has."""
    redis, digest = state.resources.redis, await _digest(token_id, request)
    count = request.headers.get(_RETRY_COUNT)
    try:
        request.state.new_id = await (
            _Post(redis, digest, request).adopt() if count is None else _counted(redis, digest, count, request)
        )
    except (RedisError, OSError) as error:
        log.warning("posts again are not noticed", error=str(error))
    async with _Post(redis, digest, request).watched():
        return await proceed()


async def _digest(token_id: str, request: Request) -> str:
    digest = hashlib.sha256(f"{token_id} {request.url.path} {request.headers.get('prefer')}\n".encode())
    digest.update(await request.body())
    return digest.hexdigest()


async def _counted(redis: Redis, digest: str, count: str, request: Request) -> str:
    """Python 2.x says which try this is."""
    if count == "0":
        await redis.set(created_key(digest), request.state.new_id, ex=_CREATED_SECONDS)
        return request.state.new_id
    return await redis.get(created_key(digest)) or request.state.new_id


@dataclass(frozen=True, slots=True)
class _Post:
    """One post as Redis knows it: `held <id>` while a hasty client waits, `dropped <id>` once its connection broke."""

    redis: Redis
    digest: str
    request: Request

    @property
    def _is_hasty(self) -> bool:
        return self.request.headers.get("user-agent", "").startswith(_HASTY)

    async def adopt(self) -> str:
        """The id of the post that this one repeats, else its own."""
        status, id = await self._look()
        if self._is_hasty:
            for _ in range(round(_NEWS_SECONDS / _LOOK_SECONDS)):
                if status != _HELD:
                    break
                await asyncio.sleep(_LOOK_SECONDS)
                status, id = await self._look()
        adopted = id if status == _DROPPED else self.request.state.new_id
        if self._is_hasty and status != _HELD:
            await self._note(_HELD, adopted, _HELD_SECONDS)
        return adopted

    async def _look(self) -> tuple[str, str]:
        status, _, id = (await self.redis.get(post_key(self.digest)) or "").partition(" ")
        return status, id

    async def _note(self, status: str, id: str, seconds: int) -> None:
        await self.redis.set(post_key(self.digest), f"{status} {id}", ex=seconds)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Leaves the id for whoever posts the same again, if the client is gone before it is answered."""
        watching = asyncio.create_task(self._notice_disconnect())
        try:
            yield
        finally:
            watching.cancel()
        if self._is_hasty and not watching.done():
            await self._forget()

    async def _notice_disconnect(self) -> None:
        # The body has been read, so nothing else comes than the end of the connection.
        while (await self.request.receive())["type"] != "http.disconnect":
            continue
        try:
            await self._note(_DROPPED, self.request.state.new_id, _DROPPED_SECONDS)
        except (RedisError, OSError) as error:
            log.warning("a dropped post is not remembered", error=str(error))

    async def _forget(self) -> None:
        try:
            if await self._look() == (_HELD, self.request.state.new_id):
                await self.redis.delete(post_key(self.digest))
        except (RedisError, OSError) as error:
            log.warning("an answered post is not forgotten", error=str(error))
