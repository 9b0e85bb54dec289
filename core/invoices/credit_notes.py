"""Credit notes: what was wrong on an invoice is put right by a document of its own, never by changing the invoice.

They move no money: a charge is given back by a refund, which the next invoice shows, and a payment by an adjustment.
"""

from typing import NamedTuple

from sqlalchemy import Row, func, select

from core.database import Transaction
from core.errors import Conflict, Invalid, NotFound
from core.invoices import invoice_documents, invoice_register
from core.invoices.invoice_totals import NANOS_PER_CENT, credit
from core.invoices.invoices import CREDIT_NOTE, INVOICE, TABLE
from core.money.pricing import dollars
from core.settings import Settings


class Left(NamedTuple):
    """What of an invoice has not been credited."""

    total_nanos: int
    tax_nanos: int


async def left_of(tx: Transaction, invoice: Row) -> Left:
    sums = [func.coalesce(func.sum(column), 0) for column in (TABLE.c.total_nanos, TABLE.c.tax_nanos)]
    total, tax = await tx.one(select(*sums).where(TABLE.c.corrects_id == invoice.id))
    return Left(invoice.total_nanos - int(total), invoice.tax_nanos - int(tax))


async def issue(
    tx: Transaction, settings: Settings, invoice_id: str, *, id: str, reason: str, amount_nanos: int | None = None
) -> Row:
    """Credits so much of an invoice, tax included, or all that is left of it. The same `id` again is not issued again.

    Raises `NotFound`, `Conflict` where less is left, `Invalid`.
    """
    if not reason.strip():
        raise Invalid("Say why it is credited: it stands on the credit note.")
    # Two at once would each see all that is left.
    invoice = await tx.first(select(TABLE).where(TABLE.c.id == invoice_id).with_for_update())
    if invoice is None:
        raise NotFound("The requested invoice could not be found.")
    if invoice.kind != INVOICE:
        raise Conflict(f"{invoice.number} is a credit note itself: credit the invoice it refers to.")
    if (issued := await tx.first(select(TABLE).where(TABLE.c.id == id, TABLE.c.kind == CREDIT_NOTE))) is not None:
        return issued
    left = await left_of(tx, invoice)
    amount = left.total_nanos if amount_nanos is None else amount_nanos
    _check(invoice, amount, amount_nanos, left)
    subtotal, tax = credit(amount, left.total_nanos, left.tax_nanos, invoice.document["tax_parts_per_million"])
    return await invoice_register.enter(
        tx,
        settings.credit_note_prefix,
        invoice_documents.credit_note(invoice, reason.strip(), subtotal, tax),
        id=id,
        account_id=invoice.account_id,
        corrects_id=invoice.id,
        month=invoice.month,
        period_start=invoice.period_start,
        period_end=invoice.period_end,
    )


def _check(invoice: Row, amount: int, asked: int | None, left: Left) -> None:
    if asked is not None and (asked <= 0 or asked % NANOS_PER_CENT):
        raise Invalid("A credit note is for more than 0 dollars, and whole cents.")
    if amount > left.total_nanos or amount <= 0:
        total, rest = dollars(invoice.total_nanos), dollars(max(0, left.total_nanos))
        raise Conflict(f"Of {invoice.number}, which came to {total} dollars, {rest} are left to be credited.")
