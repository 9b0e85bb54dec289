"""The jobs of invoices: issued month by month, each in a transaction of its own; then rendered, and kept in the store.

Killed anywhere, the next run goes on: an invoice that is there is not issued again, and one that is not rendered is
found by the sweep.
"""

from core.invoices import invoices, invoicing
from core.log import get_logger
from core.resources import Resources
from worker.invoices.pdf import render

log = get_logger()


async def make_all(resources: Resources, account_id: str) -> None:
    """Every invoice that an Account waits for, the oldest month first."""
    while True:
        async with resources.database.transaction() as tx:
            row = await invoicing.issue_next(tx, resources.settings, account_id)
        if row is None:
            return
        log.info("invoice issued", number=row.number, account=account_id, month=f"{row.month:%Y-%m}")
        await keep_pdf(resources, row.id)


async def keep_pdf(resources: Resources, invoice_id: str) -> None:
    """Bytes first, so that no row names what is not there. They are the same each time."""
    async with resources.database.autocommit() as tx:
        row = await invoices.get(tx, invoice_id, None)
    key = f"invoices/{row.id}.pdf"
    await resources.files.put(key, render(row.document))
    async with resources.database.transaction() as tx:
        await invoices.rendered(tx, row.id, key)
