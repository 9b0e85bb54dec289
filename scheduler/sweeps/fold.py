"""Adds up what has ended since: wallets, roll-ups, credits, spend limits; and takes away credit that expired."""

from core.clock import monotonic
from core.money import credits, folding, refunds
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0
#: The other sweeps wait meanwhile: after this no further batch begins, and the next pass goes on.
PASS_SECONDS = 0.25


async def run(context: Context) -> None:
    database, ends_at = context.resources.database, monotonic() + PASS_SECONDS
    count = folding.AT_ONCE
    while count == folding.AT_ONCE and monotonic() < ends_at:
        async with database.transaction() as tx:
            count = await folding.fold(tx)
    async with database.transaction() as tx:
        await credits.expire(tx)
    codes = [code.strip() for code in context.resources.settings.refund_failures.split(",") if code.strip()]
    if codes:
        async with database.transaction() as tx:
            await refunds.by_rule(tx, codes)


SWEEP = Sweep("fold", INTERVAL_SECONDS, run)
