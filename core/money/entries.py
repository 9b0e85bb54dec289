"""The ledger, as the owner of an Account reads it: every movement of its money, and what each is about. Moves nothing.

One side of each transaction is the Account's; `counterpart` names the other.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, func, select, tuple_

from core.database import Database, Transaction
from core.money import ledger
from core.money.ledger import Kind
from core.tables import LedgerEntry

TABLE = LedgerEntry.__table__

_BATCH = 1000
_OTHER = TABLE.alias("other")


@dataclass(frozen=True, slots=True)
class Filter:
    """The entries of an Account from `since` to `until`, which is excluded; None: without bound."""

    account_id: str
    kind: Kind | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page(tx: Transaction, filter: Filter, limit: int, before: tuple[datetime, str] | None = None) -> list[Row]:
    """Newest first; `before` is the (created_at, id) of the last one seen."""
    order = (TABLE.c.created_at, TABLE.c.id)
    found = _chosen(filter)
    if before is not None:
        found = found.where(tuple_(*order) < tuple_(*before))
    return list(await tx.all(found.order_by(*(column.desc() for column in order)).limit(limit)))


async def stream(database: Database, filter: Filter, batch: int = _BATCH) -> AsyncIterator[Sequence[Row]]:
    """All of them, oldest first; a transaction for each batch."""
    order = (TABLE.c.created_at, TABLE.c.id)
    last: Row | None = None
    while True:
        found = _chosen(filter)
        if last is not None:
            found = found.where(tuple_(*order) > tuple_(last.created_at, last.id))
        async with database.autocommit() as tx:
            rows = await tx.all(found.order_by(*order).limit(batch))
        if rows:
            yield rows
            last = rows[-1]
        if len(rows) < batch:
            return


async def find(tx: Transaction, account_id: str, transaction_id: str) -> Row | None:
    """The Account's side of a transaction."""
    return await tx.first(_chosen(Filter(account_id)).where(TABLE.c.transaction_id == transaction_id))


async def entry(tx: Transaction, account_id: str, transaction_id: str) -> Row:
    """The same, of one that is there."""
    return await tx.one(_chosen(Filter(account_id)).where(TABLE.c.transaction_id == transaction_id))


def refers_to(row: Row) -> tuple[str, str] | None:
    """What an entry is about: a (prediction, instance or credit) and its id; None where its reason says all."""
    if row.kind in (Kind.TOP_UP, Kind.PROMOTION):
        return "credit", row.transaction_id
    if row.kind == Kind.EXPIRY:
        return "credit", row.corrects
    usage = row.usage_record_id or row.corrects
    if usage is None:
        return None
    kind, colon, cause = usage.partition(":")
    return (kind, cause) if colon else None


def _chosen(filter: Filter) -> Select:
    other = (
        select(func.min(_OTHER.c.ledger_account))
        .where(_OTHER.c.transaction_id == TABLE.c.transaction_id, _OTHER.c.ledger_account != TABLE.c.ledger_account)
        .scalar_subquery()
    )
    found = select(TABLE, other.label("counterpart"))
    found = found.where(TABLE.c.ledger_account == ledger.account(filter.account_id))
    if filter.kind is not None:
        found = found.where(TABLE.c.kind == filter.kind)
    if filter.since is not None:
        found = found.where(TABLE.c.created_at >= filter.since)
    return found if filter.until is None else found.where(TABLE.c.created_at < filter.until)
