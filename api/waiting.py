"""`Prefer: wait`: one shared Redis subscription tells this process which predictions have ended; requests await theirs.

Losing the subscription costs a look at the row every second, not a lost answer. No transaction is open meanwhile.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.clock import monotonic
from core.log import get_logger
from core.redis import FINISHED_CHANNEL

log = get_logger()

_RETRY_SECONDS = 0.5
#: How often a waiting request looks at its row: while nobody would tell, and in case a message was lost.
_LOOK_DEAF_SECONDS = 1.0
_LOOK_SECONDS = 5.0


class Waiter:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._expected: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._hears = False
        self._is_closing = False

    def release(self) -> None:
        """The process is about to end: whoever waits is answered now."""
        self._is_closing = True
        for waiting in self._expected.values():
            for finished in waiting:
                finished.set()

    async def listen(self) -> None:
        """Runs as long as the process does."""
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(FINISHED_CHANNEL)
                    async for message in channel.listen():
                        self._hears = True
                        for finished in self._expected.get(message["data"], ()):
                            finished.set()
            except (RedisError, OSError) as error:
                log.warning("waiting without being told", error=str(error))
            self._hears = False
            await asyncio.sleep(_RETRY_SECONDS)

    @contextmanager
    def expect(self, prediction_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the prediction ends. Open it before its commit, so that no end is missed."""
        finished = asyncio.Event()
        self._expected[prediction_id].add(finished)
        try:
            yield finished
        finally:
            self._expected[prediction_id].discard(finished)
            if not self._expected[prediction_id]:
                del self._expected[prediction_id]

    async def wait(self, finished: asyncio.Event, seconds: float, has_ended: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it ended within so many seconds."""
        deadline = monotonic() + seconds
        while (left := deadline - monotonic()) > 0:
            try:
                await asyncio.wait_for(finished.wait(), min(left, _LOOK_SECONDS if self._hears else _LOOK_DEAF_SECONDS))
                return await has_ended() if self._is_closing else True
            except TimeoutError:
                if await has_ended():
                    return True
        return False
