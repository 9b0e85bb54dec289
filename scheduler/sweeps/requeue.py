"""Queues again what waits but is in no queue, because its push was lost, or Redis was; and before it, what counts
against the limits of accounts."""

from dataclasses import dataclass

from core import concurrency, predictions, queue
from core.clock import monotonic
from core.log import get_logger
from core.resources import Resources
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 2.0
#: Younger ones are still on their way between commit and push.
WAITING_SECONDS = 2.0
#: The other sweeps wait meanwhile: after this no further batch begins, and the next pass goes on.
PASS_SECONDS = 0.25
_BATCH = 5000

log = get_logger()


@dataclass(slots=True)
class Walk:
    """How far the passes have come through all that waits, however many: nobody is looked for twice before the last."""

    after: tuple | None = None


_walk = Walk()


async def run(context: Context) -> None:
    resources = context.resources
    async with resources.database.autocommit() as tx:
        await concurrency.refresh(tx, resources.redis, resources.settings.account_concurrency)
    ends_at = monotonic() + PASS_SECONDS
    pushed = await _push_next(resources)
    while _walk.after is not None and monotonic() < ends_at:
        pushed += await _push_next(resources)
    if pushed:
        log.info("requeued", count=pushed)


async def _push_next(resources: Resources) -> int:
    async with resources.database.autocommit() as tx:
        rows = await predictions.waiting_since(tx, WAITING_SECONDS, _BATCH, _walk.after)
    # Nearly all of them are there, and to look costs a hundredth of a push.
    lost = await queue.missing(resources.redis, [(row.target, row.id) for row in rows])
    entries = [(row.target, row.account_id, row.id, row.priority) for row in rows if row.id in lost]
    pushed = await queue.push_many(resources.redis, entries)
    last = rows[-1] if len(rows) == _BATCH else None
    _walk.after = (last.target, last.created_at, last.id) if last else None
    return pushed


SWEEP = Sweep("requeue", INTERVAL_SECONDS, run)
