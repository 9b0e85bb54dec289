"""Clients that post again by themselves: what the first post made is what the second one gets.

JavaScript posts up to six times at once when its connection breaks, Python 2.x twice more after its time-out, which
breaks it as well. So a post that nobody was there to be answered leaves its id, and the next equal one takes it: once.
Equal posts whose clients are there are so many requests.
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
from core.errors import MillraceError
from core.log import get_logger
from core.redis import held_key, unanswered_key

log = get_logger()

#: JavaScript posts again at once; Python 2.x pauses for up to 8 s.
_UNANSWERED_SECONDS = 15
#: Longer than any answer is held.
_HELD_SECONDS = 90
#: A post may overtake the news that the connection of the one before it has broken: by a few milliseconds, or tenths of
#: a second on a machine with too much to do. So long an equal post of the same token waits while the other is held.
_NEWS_SECONDS = 1.0
_LOOK_SECONDS = 0.01

_HASTY = "replicate-javascript/"


async def guard(state: State, token_id: str, request: Request, proceed: Callable[[], Awaitable[Response]]) -> Response:
    """Runs `proceed` with the id of an equal post that was never answered, if there is one."""
    post = _Post(state.resources.redis, await _digest(token_id, request), request)
    try:
        request.state.new_id = await post.adopted() or request.state.new_id
    except (RedisError, OSError) as error:
        log.warning("posts again are not noticed", error=str(error))
    async with post.held():
        return await proceed()


async def _digest(token_id: str, request: Request) -> str:
    digest = hashlib.sha256(f"{token_id} {request.url.path} {request.headers.get('prefer')}\n".encode())
    digest.update(await request.body())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Post:
    redis: Redis
    digest: str
    request: Request

    @property
    def _is_hasty(self) -> bool:
        """Whether this client does not wait before it posts again."""
        return self.request.headers.get("user-agent", "").startswith(_HASTY)

    async def adopted(self) -> str | None:
        """The id that an equal post has left. A hasty client's post waits for one that is about to be left."""
        for _ in range(round(_NEWS_SECONDS / _LOOK_SECONDS)):
            id = await self.redis.lpop(unanswered_key(self.digest))
            if id is not None or not (self._is_hasty and await self._is_held()):
                return id
            await asyncio.sleep(_LOOK_SECONDS)
        return None

    async def _is_held(self) -> bool:
        return int(await self.redis.get(held_key(self.digest)) or 0) > 0

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Leaves the id if the client goes before it is answered, or if it is answered with a failure of ours."""
        if self._is_hasty:
            await self._count(1)
        watching = asyncio.create_task(self._notice_disconnect())
        try:
            yield
        except Exception as error:
            if not isinstance(error, MillraceError) or error.status >= 500:
                await self._leave()
            raise
        finally:
            watching.cancel()
            if self._is_hasty:
                await self._count(-1)

    async def _notice_disconnect(self) -> None:
        # The body has been read, so nothing else comes than the end of the connection.
        while (await self.request.receive())["type"] != "http.disconnect":
            continue
        await self._leave()

    async def _leave(self) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.rpush(unanswered_key(self.digest), self.request.state.new_id)
        pipeline.expire(unanswered_key(self.digest), _UNANSWERED_SECONDS)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("an unanswered post is not remembered", error=str(error))

    async def _count(self, change: int) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.incrby(held_key(self.digest), change)
        pipeline.expire(held_key(self.digest), _HELD_SECONDS)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            log.warning("held posts are not counted", error=str(error))
