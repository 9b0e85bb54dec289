"""Invoices and credit notes that are issued: found, listed, shown, and written as CSV. Their documents are the truth:
whatever is shown or rendered of them, at any time, comes from those alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, tuple_, update

from core.database import Transaction
from core.errors import NotFound
from core.money.ledger import Kind
from core.tables import Invoice
from core.usage import exports

TABLE = Invoice.__table__
INVOICE, CREDIT_NOTE = "invoice", "credit_note"
ISSUED = "issued"

#: Every row is an addend: the amounts of a file sum up to the total of its document.
CSV_COLUMNS = (
    "number",
    "kind",
    "model",
    "hardware",
    "phase",
    "runs",
    "quantity",
    "unit",
    "price_per_unit",
    "price_id",
    "description",
    "amount",
)


async def get(tx: Transaction, invoice_id: str, account_id: str | None) -> Row:
    """Of an Account, or of any with None. Raises `NotFound`."""
    found = select(TABLE).where(TABLE.c.id == invoice_id)
    if account_id is not None:
        found = found.where(TABLE.c.account_id == account_id)
    row = await tx.first(found)
    if row is None:
        raise NotFound("The requested invoice could not be found.")
    return row


async def list_page(
    tx: Transaction, account_id: str | None, limit: int, before: tuple[datetime, str] | None = None
) -> Sequence[Row]:
    """Newest first; of all Accounts with None."""
    listed = select(TABLE)
    if account_id is not None:
        listed = listed.where(TABLE.c.account_id == account_id)
    if before is not None:
        listed = listed.where(tuple_(TABLE.c.created_at, TABLE.c.id) < before)
    return await tx.all(listed.order_by(TABLE.c.created_at.desc(), TABLE.c.id.desc()).limit(limit))


async def credit_notes_of(tx: Transaction, invoice_id: str) -> Sequence[Row]:
    """Oldest first."""
    corrections = select(TABLE).where(TABLE.c.corrects_id == invoice_id)
    return await tx.all(corrections.order_by(TABLE.c.issued_at, TABLE.c.number))


async def unrendered(tx: Transaction, limit: int) -> list[str]:
    """Those whose PDF nobody has made yet, the oldest first."""
    missing = select(TABLE.c.id).where(TABLE.c.pdf.is_(None)).order_by(TABLE.c.created_at).limit(limit)
    return [row.id for row in await tx.all(missing)]


async def rendered(tx: Transaction, invoice_id: str, key: str) -> None:
    """Its PDF lies in the store under that key: the one thing that may change on an issued invoice."""
    await tx.execute(update(TABLE).where(TABLE.c.id == invoice_id).values(pdf=key))


def csv_text(document: Mapping[str, Any]) -> str:
    """Exact, in dollars, a point for the comma, whatever the locale: for machines."""
    rows = [{**dict.fromkeys(CSV_COLUMNS), "number": document["number"], **row} for row in _csv_rows(document)]
    return exports.header(CSV_COLUMNS) + exports.lines(CSV_COLUMNS, rows)


def _csv_rows(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from map(_csv_line, document["lines"])
    rounding = document["subtotal_nanos"] - document["exact_nanos"]
    if rounding:
        yield {"kind": "rounding", "description": "To the cent", "amount": exports.amount(rounding)}
    if document["tax_nanos"]:
        yield {"kind": "tax", "description": document["tax_name"], "amount": exports.amount(document["tax_nanos"])}


def _csv_line(line: Mapping[str, Any]) -> dict[str, Any]:
    row = {"kind": line["kind"], "description": line.get("reason"), "amount": exports.amount(line["amount_nanos"])}
    if line["kind"] != Kind.USAGE:
        return row
    return row | {
        "model": line["model"],
        "hardware": line["hardware"],
        "phase": line["phase"],
        "runs": line["runs"],
        "quantity": line["quantity"],
        "unit": line["metric"],
        "price_per_unit": exports.amount(line["nanos_per_unit"]),
        "price_id": line["price_id"],
    }
