"""Aborts what waited past its deadline. A running one is stopped by its runner."""

from core import predictions
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0


async def run(context: Context) -> None:
    async with context.resources.database.transaction() as tx:
        await predictions.expire(tx)


SWEEP = Sweep("expire", INTERVAL_SECONDS, run)
