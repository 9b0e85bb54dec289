"""Has accounts recharged whose wallets have run low. Whether they really are due is decided with their row locked."""

from core.log import get_logger
from core.payments import recharges
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 10.0
_AT_ONCE = 1000

log = get_logger()


async def run(context: Context) -> None:
    if not context.resources.settings.stripe_secret_key:
        return
    async with context.resources.database.autocommit() as tx:
        account_ids = await recharges.candidates(tx, _AT_ONCE)
    for account_id in account_ids:
        if await context.jobs.recharge(account_id):
            log.info("asking for a recharge", account=account_id)


SWEEP = Sweep("recharge", INTERVAL_SECONDS, run)
