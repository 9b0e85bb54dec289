"""What a waiting prediction is told of its queue: how many are ahead, why it waits, and for about how long."""

from typing import Any

from cachetools import TTLCache
from redis.exceptions import RedisError
from sqlalchemy import Row

from core import concurrency, demand, queue
from core.database import Database
from core.demand import Pace
from core.resources import Resources

#: A pace is a mean over many runs: it need not be looked up for each who asks.
_PACE_SECONDS = 5.0
_PACES = 10_000


class Queueing:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._paces: TTLCache[str, Pace] = TTLCache(_PACES, _PACE_SECONDS)

    async def standing(self, row: Row) -> dict[str, Any]:
        """Position 0 is taken next. What nobody knows is None: a slot may have taken it just now."""
        try:
            ahead, limit = await queue.standing(self._resources.redis, row.target, row.account_id, row.id)
        except (RedisError, OSError):
            ahead = limit = None
        if limit is not None:
            return {"position": ahead, "reason": concurrency.reason(limit), "estimated_seconds": None}
        seconds = None
        if ahead is not None:
            seconds = (await self._pace(self._resources.database, row)).estimate(ahead, row.queue_reason)
        return {
            "position": ahead,
            "reason": demand.standing(row.queue_reason, ahead, seconds),
            "estimated_seconds": None if seconds is None else round(seconds, 1),
        }

    async def _pace(self, database: Database, row: Row) -> Pace:
        pace = self._paces.get(row.target)
        if pace is None:
            async with database.autocommit() as tx:
                pace = self._paces[row.target] = await demand.pace(tx, row.target, row.version_id)
        return pace
