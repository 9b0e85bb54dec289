"""Aborts what waited past its deadline. A running one is stopped by its runner."""

from core import unstarted
from core.clock import monotonic
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0
#: The other sweeps wait meanwhile: after this no further batch begins, and the next pass goes on.
PASS_SECONDS = 0.25


async def run(context: Context) -> None:
    ends_at = monotonic() + PASS_SECONDS
    count = unstarted.AT_ONCE
    while count == unstarted.AT_ONCE and monotonic() < ends_at:
        async with context.resources.database.transaction() as tx:
            count = await unstarted.expire(tx)


SWEEP = Sweep("expire", INTERVAL_SECONDS, run)
