"""Rings for webhooks that have been due for a while: their bell was lost, or their sender died with them claimed."""

from core import webhooks
from core.redis import DELIVERY_BELL, ring
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0
OVERDUE_SECONDS = 1.0


async def run(context: Context) -> None:
    async with context.resources.database.autocommit() as tx:
        overdue = await webhooks.overdue(tx, OVERDUE_SECONDS)
    if overdue:
        await ring(context.resources.redis, DELIVERY_BELL)


SWEEP = Sweep("deliver", INTERVAL_SECONDS, run)
