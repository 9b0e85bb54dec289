"""What one pass of the scheduler remembers for the next: when targets were called and will be, how fast Versions are.

Hints only: a scheduler that has just begun to lead has none, and decides well enough without.
"""

from collections.abc import Collection, Mapping

from cachetools import TTLCache
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import Row

from core import demand, queue
from core.clock import monotonic
from core.database import Transaction
from core.log import get_logger
from scheduler.foresight import Foresight

#: A pace is a mean over many runs: it need not be looked up in every pass.
_PACE_SECONDS = 10.0
_KEPT = 50_000

log = get_logger()


class Hints:
    def __init__(self) -> None:
        self._paces: TTLCache[str, Row] = TTLCache(_KEPT, _PACE_SECONDS)
        self._arrivals: dict[str, tuple[float, tuple[float, ...]]] = {}
        """By target, when they were read and how old they were then."""
        self.foresight = Foresight()

    async def paces(self, tx: Transaction, version_ids: Collection[str]) -> Mapping[str, Row]:
        """By Version, see core/demand.py."""
        known = {id: row for id in version_ids if (row := self._paces.get(id)) is not None}
        unknown = [id for id in version_ids if id not in known]
        read = await demand.paces(tx, unknown) if unknown else {}
        self._paces.update(read)
        return {**known, **read}

    async def arrivals(self, redis: Redis, idle: Mapping[str, float]) -> dict[str, tuple[float, ...]]:
        """How long ago each target was called, newest first. `idle`: for how many seconds nobody called it, so that
        what was read since is still true."""
        moment = monotonic()
        known = {target: self._arrivals[target] for target in idle if target in self._arrivals}
        stale = [name for name, seconds in idle.items() if name not in known or known[name][0] < moment - seconds]
        try:
            read = await queue.arrivals(redis, stale) if stale else {}
        except (RedisError, OSError) as error:
            log.warning("arrivals not read", error=str(error))
            read = {}
        known.update((target, (moment, ages)) for target, ages in read.items())
        self._arrivals = known
        return {target: tuple(age + moment - read_at for age in ages) for target, (read_at, ages) in known.items()}
