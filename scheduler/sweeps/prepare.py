"""Has Versions prepared that nobody is preparing: fresh ones, and those whose job died with its lease."""

from core import catalog
from core.log import get_logger
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0
#: Time for the job to begin; from then on it renews the lease itself.
LEASE_SECONDS = 15.0

log = get_logger()


async def run(context: Context) -> None:
    database = context.resources.database
    async with database.autocommit() as tx:
        ids = await catalog.to_prepare(tx)
    # One at a time: a Version whose job waits in the queue must not be asked for again when its lease runs out.
    if not ids or await context.jobs.is_waiting():
        return
    async with database.transaction() as tx:
        leased = await catalog.lease_preparation(tx, ids[0], LEASE_SECONDS)
    if leased:
        log.info("asking for preparation", version=ids[0])
        await context.jobs.prepare_version(ids[0])


SWEEP = Sweep("prepare", INTERVAL_SECONDS, run, wakes=True)
