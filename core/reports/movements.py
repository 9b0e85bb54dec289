"""Money that moved other than by usage: paid in, given, taken out, expired, given back; from the ledger."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Row, Select, func, literal, select, tuple_

from core.database import Database, Transaction, one_of
from core.errors import NotFound
from core.money import ledger
from core.money.ledger import Kind
from core.reports.filters import Filter
from core.reports.totals import total
from core.tables import Account, LedgerEntry

ENTRY = LedgerEntry.__table__
_PREFIX = "account:"
#: What people and rules did; waivers and discounts follow from charges, and are many.
BY_HAND = (Kind.TOP_UP, Kind.PROMOTION, Kind.ADJUSTMENT, Kind.REFUND, Kind.EXPIRY)
ALL = (*BY_HAND, Kind.WAIVER, Kind.DISCOUNT)
PAGE_SIZE = 50
_BATCH = 2000

Position = tuple[datetime, str]


def _listing(filter: Filter, kinds: Collection[str], before: Position | None) -> Select:
    """The side of the Account, newest first."""
    own = ENTRY.c.ledger_account.startswith(_PREFIX)
    if filter.account is not None:
        own = ENTRY.c.ledger_account == ledger.account(filter.account)
    conditions = [*_within(filter, kinds), own]
    if before is not None:
        conditions.append(tuple_(ENTRY.c.created_at, ENTRY.c.id) < tuple_(*map(literal, before)))
    account_id = func.substr(ENTRY.c.ledger_account, len(_PREFIX) + 1)
    rows = select(ENTRY, Account.id.label("account_id"), Account.username).join(Account, Account.id == account_id)
    return rows.where(*conditions).order_by(ENTRY.c.created_at.desc(), ENTRY.c.id.desc())


def _within(filter: Filter, kinds: Collection[str]) -> list[ColumnElement[bool]]:
    return [
        # Written out, for the index that has all but these.
        ENTRY.c.kind != literal("usage", literal_execute=True),
        one_of(ENTRY.c.kind, [str(kind) for kind in kinds]),
        ENTRY.c.created_at >= filter.since,
        ENTRY.c.created_at < filter.until,
    ]


async def page(
    tx: Transaction,
    filter: Filter,
    kinds: Collection[str] = BY_HAND,
    before: Position | None = None,
    limit: int = PAGE_SIZE,
) -> list[Row]:
    """Ledger entries with `account_id` and `username`; `before` is the (created_at, id) of the last one seen."""
    return list(await tx.all(_listing(filter, kinds, before).limit(limit)))


async def stream(database: Database, filter: Filter, kinds: Collection[str]) -> AsyncIterator[Sequence[Row]]:
    before = None
    while True:
        async with database.autocommit() as tx:
            batch = await page(tx, filter, kinds, before, _BATCH)
        if batch:
            yield batch
        if len(batch) < _BATCH:
            return
        before = (batch[-1].created_at, batch[-1].id)


async def by_kind(tx: Transaction, filter: Filter) -> dict[str, tuple[int, int]]:
    """How often, and how much: what the Accounts got, less what was taken from them."""
    own = ENTRY.c.ledger_account.startswith(_PREFIX)
    if filter.account is not None:
        own = ENTRY.c.ledger_account == ledger.account(filter.account)
    sums = select(ENTRY.c.kind, func.count().label("count"), total(ENTRY.c.amount_nanos).label("nanos"))
    rows = await tx.all(sums.where(*_within(filter, ALL), own).group_by(ENTRY.c.kind))
    return {row.kind: (row.count, row.nanos) for row in rows}


@dataclass(frozen=True, slots=True)
class Movement:
    """One transaction of the ledger: all its sides, and the later ones that correct it."""

    entries: Sequence[Row]
    corrections: Sequence[Row]


async def one(tx: Transaction, transaction_id: str, account_id: str | None = None) -> Movement:
    """`account_id`: who must be a side of it. Raises `NotFound`."""
    entries = await tx.all(select(ENTRY).where(ENTRY.c.transaction_id == transaction_id).order_by(ENTRY.c.amount_nanos))
    sides = {entry.ledger_account for entry in entries}
    if not entries or (account_id is not None and ledger.account(account_id) not in sides):
        raise NotFound(f"There is no ledger transaction {transaction_id}.")
    corrections = select(ENTRY).where(ENTRY.c.corrects == transaction_id, ENTRY.c.ledger_account.startswith(_PREFIX))
    return Movement(entries, await tx.all(corrections.order_by(ENTRY.c.created_at)))


async def is_done(tx: Transaction, transaction_id: str) -> bool:
    """Whether a transaction of that id is in the ledger: a form that was sent twice."""
    return await tx.first(select(ENTRY.c.id).where(ENTRY.c.transaction_id == transaction_id).limit(1)) is not None
