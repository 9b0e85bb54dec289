"""Has invoices made for the Accounts that have used something in a month that is over."""

from core.invoices import invoicing
from core.log import get_logger
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 3600.0

log = get_logger()


async def run(context: Context) -> None:
    if not invoicing.is_on(context.resources.settings):
        return
    async with context.resources.database.autocommit() as tx:
        account_ids = await invoicing.due(tx)
    for account_id in account_ids:
        if await context.jobs.make_invoices(account_id):
            log.info("asking for invoices", account=account_id)


SWEEP = Sweep("invoice", INTERVAL_SECONDS, run)
