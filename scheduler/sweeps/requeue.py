"""Queues again what waits but is in no queue, because its push was lost, or Redis was; and before it, what counts
against the limits of accounts."""

from core import concurrency, predictions, queue
from core.log import get_logger
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 2.0
#: Younger ones are still on their way between commit and push.
WAITING_SECONDS = 2.0
_BATCH = 5000

log = get_logger()


async def run(context: Context) -> None:
    redis, settings = context.resources.redis, context.resources.settings
    async with context.resources.database.autocommit() as tx:
        await concurrency.refresh(tx, redis, settings.account_concurrency)
        rows = await predictions.waiting_since(tx, WAITING_SECONDS, _BATCH)
    # Pushing what is queued already changes nothing, so nobody needs to look first.
    pushed = await queue.push_many(redis, rows)
    if pushed:
        log.info("requeued", count=pushed)


SWEEP = Sweep("requeue", INTERVAL_SECONDS, run)
