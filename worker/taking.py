"""Takes predictions of one target off the queue, as many as there are free slots; what becomes of them it never knows.

It stops only between two looks at the queue: what has been taken has begun, so that stopping drops nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core import queue
from core.clock import monotonic
from core.log import get_logger

log = get_logger()

#: After Redis failed to answer, the next try.
_RETRY_SECONDS = 0.5
#: A Redis that does not answer is not waited for.
_STOP_SECONDS = 2.0


class Taking:
    """`free` is the number of free slots; whoever begins a prediction takes one, whoever ends it calls `freed`.

    Where it `takes_ahead`, one more is taken as another begins, if one waits then: whoever is idle is quicker.
    """

    def __init__(
        self,
        redis: Redis,
        target: str,
        slots: int,
        begin: Callable[[str], None],
        takes_ahead: Callable[[], bool] = lambda: False,
    ) -> None:
        self.free = slots
        self._redis = redis
        self._target = target
        self._begin = begin
        self._takes_ahead = takes_ahead
        self._has_begun = False
        self._slot_freed = asyncio.Event()
        self._stopped = False
        self._task: asyncio.Task | None = None
        self._is_waiting = False

    def freed(self) -> None:
        self.free += 1
        # It is that of one taken ahead now, where there is one.
        self._has_begun = True
        self._slot_freed.set()

    async def run(self) -> None:
        """Until `stop` is called."""
        self._task = asyncio.create_task(self._take_for_ever())
        try:
            await asyncio.wait([self._task])
        finally:
            self._task.cancel()
        if not self._task.cancelled():
            self._task.result()

    def stop(self) -> None:
        """Nothing new from now on, but for what is being taken at this moment."""
        self._stopped = True
        if self._task is not None and self._is_waiting:
            self._task.cancel()

    async def stopped(self) -> None:
        """Stops, and returns when nothing more can come."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=_STOP_SECONDS)
            self._task.cancel()

    async def _take_for_ever(self) -> None:
        announced = 0.0
        while not self._stopped:
            try:
                if monotonic() - announced > queue.SERVING_SECONDS / 3:
                    await queue.announce(self._redis, self._target)
                    announced = monotonic()
                if self.free > 0:
                    await self._fill()
                elif self.free == 0 and self._has_begun and self._takes_ahead():
                    self._has_begun = False
                    await self._take(1)
                else:
                    self._slot_freed.clear()
                    await self._wait(self._slot_freed.wait())
            except (RedisError, OSError) as error:
                log.warning("queue not answering", target=self._target, error=str(error))
                await self._wait(asyncio.sleep(_RETRY_SECONDS))

    async def _fill(self) -> None:
        self._has_begun = True
        # Less than wanted: the queue is empty, and rings when it is not.
        if not await self._take(self.free) and not self._stopped:
            await self._wait(queue.wait(self._redis, self._target))

    async def _take(self, wanted: int) -> bool:
        ids = await queue.take(self._redis, self._target, wanted)
        for id in ids:
            self._begin(id)
        return len(ids) == wanted

    async def _wait(self, something: Awaitable[object]) -> None:
        """Here, and only here, it may be cancelled."""
        self._is_waiting = True
        try:
            await something
        finally:
            self._is_waiting = False
