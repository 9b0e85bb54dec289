"""Has the PDFs made of invoices that have none: of credit notes, and of those whose job died before."""

from core.invoices import invoices
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 5.0
#: A pass's worth: the rest is found by the next one.
_AT_ONCE = 50


async def run(context: Context) -> None:
    async with context.resources.database.autocommit() as tx:
        ids = await invoices.unrendered(tx, _AT_ONCE)
    for invoice_id in ids:
        await context.jobs.render_invoice(invoice_id)


SWEEP = Sweep("render", INTERVAL_SECONDS, run)
