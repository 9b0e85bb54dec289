"""Ends what a dead node held: its Instances count as gone, its predictions run once more or fail with a reason.

A lease that runs out while the database itself was away proves nothing about the node, so after an outage every node
gets a whole lease to report again.
"""

from core import catalog, fleet, predictions
from core.lifecycle import NodeFault
from core.log import get_logger
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0
_BATCH = 500
#: What owners are told. Why else an Instance failed, its own events tell.
_REASONS = {
    NodeFault.LOST: "its node stopped reporting",
    NodeFault.STOPPED: "its node was stopped",
    NodeFault.UNWATCHED: "nobody watched over its container any more",
}
_UNKNOWN = "its container, or the node that ran it, is gone"

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
        versions = await catalog.version_traits(tx, {row.version_id for row in rows}) if rows else {}
    for row in rows:
        async with database.transaction() as tx:
            allows_retry = versions[row.version_id].allows_retry
            reason = _REASONS.get(row.instance_reason, _UNKNOWN)
            await predictions.interrupt(tx, row.id, row.attempt, allows_retry, reason=reason)
        log.warning("rescued", prediction=row.id, attempt=row.attempt, reason=reason)


SWEEP = Sweep("rescue", INTERVAL_SECONDS, run)
