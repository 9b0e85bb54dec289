"""Whether a caller may start something, and how much to hold for it; remembered for a moment.

What is remembered may be a little old: the wallet itself refuses what it has not got, whatever was thought here.
"""

from cachetools import TTLCache
from sqlalchemy import Row

from core.catalog import Runnable
from core.database import Database
from core.errors import PaymentRequired
from core.money import folding, holds, limits

_ESTIMATE_SECONDS = 30.0
_LIMITS_SECONDS = 1.0
_REMEMBERED = 10_000


class Funds:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._estimates: TTLCache[tuple[str, ...], int] = TTLCache(_REMEMBERED, _ESTIMATE_SECONDS)
        self._reached: TTLCache[str, list[Row]] = TTLCache(_REMEMBERED, _LIMITS_SECONDS)

    async def hold_for(self, caller: Row, runnable: Runnable) -> int | None:
        """Nanodollars to set aside; None: it may owe without limit. Raises `PaymentRequired` at a spend limit."""
        for limit in await self._reached_by(caller.id):
            if limits.applies(limit, caller.token_id, runnable.model):
                raise PaymentRequired(limits.explain(limit))
        return None if caller.credit_limit_nanos is None else await self._estimate(caller.id, runnable)

    async def fold(self, account_id: str) -> None:
        """Adds up what has ended in the meantime."""
        async with self._database.transaction() as tx:
            await folding.fold(tx, account_id)

    async def _reached_by(self, account_id: str) -> list[Row]:
        reached = self._reached.get(account_id)
        if reached is None:
            async with self._database.autocommit() as tx:
                reached = self._reached[account_id] = list(await limits.reached(tx, account_id))
        return reached

    async def _estimate(self, account_id: str, runnable: Runnable) -> int:
        key = (account_id, runnable.version_id, runnable.hardware_sku)
        nanos = self._estimates.get(key)
        if nanos is None:
            async with self._database.autocommit() as tx:
                nanos = await holds.estimate(tx, account_id, runnable.model, runnable.version_id, runnable.hardware_sku)
            self._estimates[key] = nanos
        return nanos
