"""Has it found out what became of top-ups that have been on their way for a while: their event was lost, or a process
died between asking for money and hearing of it."""

from core.payments import payments
from core.payments.paying import ASK_AFTER_SECONDS
from scheduler.sweeps.base import Context, Sweep

#: A page to pay on is open for an hour, and asked after that often.
INTERVAL_SECONDS = 120.0


async def run(context: Context) -> None:
    if not context.resources.settings.stripe_secret_key:
        return
    async with context.resources.database.autocommit() as tx:
        rows = await payments.pending_since(tx, ASK_AFTER_SECONDS)
    for account_id in sorted({row.account_id for row in rows}):
        await context.jobs.settle_top_ups(account_id)


SWEEP = Sweep("settle", INTERVAL_SECONDS, run)
