"""Nodes that are being emptied: their Instances take nothing new, and what they run may finish until then."""

from core import drains, fleet
from core.log import get_logger
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0

log = get_logger()


async def run(context: Context) -> None:
    database = context.resources.database
    async with database.autocommit() as tx:
        leaving = await drains.due(tx)
    if not leaving:
        return
    async with database.transaction() as tx:
        for row in leaving:
            await fleet.drain_instance(tx, row.id, float(row.seconds), f"Node {row.node} is being emptied.")
    log.info("draining", instances=len(leaving), nodes=sorted({row.node for row in leaving}))


SWEEP = Sweep("drain", INTERVAL_SECONDS, run, wakes=True)
