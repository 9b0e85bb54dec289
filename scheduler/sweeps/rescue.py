"""Ends what a dead node held: its Instances count as gone, its predictions run once more or fail with a reason.

A lease that runs out while the database itself was away proves nothing about the node, so after an outage every node
gets a whole lease to report again.
"""

from core import catalog, fleet, predictions
from core.log import get_logger
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0
_BATCH = 500

log = get_logger()


async def run(context: Context) -> None:
    database = context.resources.database
    if context.healthy_seconds > context.resources.settings.node_lease_seconds:
        async with database.transaction() as tx:
            lost = await fleet.declare_lost(tx)
        if lost:
            log.warning("instances lost with their node", instances=lost)
    async with database.autocommit() as tx:
        rows = await predictions.orphans(tx, _BATCH)
        versions = await catalog.versions_by_id(tx, list({row.version_id for row in rows})) if rows else {}
    for row in rows:
        async with database.transaction() as tx:
            await predictions.interrupt(tx, row.id, row.attempt, versions[row.version_id].allows_retry)
        log.warning("rescued", prediction=row.id, attempt=row.attempt)


SWEEP = Sweep("rescue", INTERVAL_SECONDS, run)
