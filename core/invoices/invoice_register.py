"""Documents are entered: numbered without gaps, `INV-2026-000042`, and frozen. One series for each prefix and year.

The row of a series stays locked until the transaction that took a number has committed or not: if it has not, the next
one gets the same number. So it comes last, and whoever waits for it waits for a commit and nothing else.
"""

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.invoices import invoice_documents
from core.invoices.invoices import ISSUED, TABLE
from core.money.pricing import dollars
from core.people import audit
from core.tables import InvoiceSeries

SERIES = InvoiceSeries.__table__


class _Given(NamedTuple):
    number: str
    at: datetime
    """Read under the lock, so that later numbers have later dates."""


async def enter(tx: Transaction, prefix: str, document: invoice_documents.Document, **values: Any) -> Row:
    """Gives a document the next number of this year (UTC), and puts it on record, for good."""
    given = await _next_number(tx, prefix)
    numbered = invoice_documents.numbered(document, given.number, given.at)
    amounts = {name: document[name] for name in ("subtotal_nanos", "tax_nanos", "total_nanos")}
    row = await tx.one(
        insert(TABLE)
        .values(
            **values,
            **amounts,
            kind=document["kind"],
            number=given.number,
            status=ISSUED,
            document=numbered,
            created_at=given.at,
            issued_at=given.at,
        )
        .returning(TABLE)
    )
    after = {"number": row.number, "month": f"{row.month:%Y-%m}", "total": dollars(row.total_nanos)}
    if "corrects" in document:
        after |= {"corrects": document["corrects"]["number"], "reason": document["lines"][0]["reason"]}
    await audit.record(tx, f"{row.kind}.issue", f"{row.kind}:{row.id}", account_id=row.account_id, after=after)
    return row


async def _next_number(tx: Transaction, prefix: str) -> _Given:
    year = int(await tx.scalar(select(func.extract("year", func.timezone("UTC", func.clock_timestamp())))))
    series = f"{prefix}-{year}"
    first = upsert(SERIES).values(series=series, last_number=1)
    following = first.on_conflict_do_update(
        index_elements=["series"], set_={"last_number": SERIES.c.last_number + 1}
    ).returning(SERIES.c.last_number, func.clock_timestamp().label("at"))
    row = await tx.one(following)
    return _Given(f"{series}-{row.last_number:06d}", row.at)
