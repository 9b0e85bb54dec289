"""What Accounts have, all at once: wallets as they are this moment, with what postings still add to them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select

from core.database import Transaction, one_of
from core.money.holds import WALLET
from core.reports.totals import total
from core.tables import Account, WalletPosting

_POSTING = WalletPosting.__table__
ORDERS = ("balance", "held", "spendable", "name")
PAGE_SIZE = 100


def _now() -> Select:
    pending = select(
        _POSTING.c.account_id,
        total(_POSTING.c.amount_nanos).label("amount_nanos"),
        total(_POSTING.c.released_nanos).label("released_nanos"),
    )
    pending = pending.group_by(_POSTING.c.account_id).subquery()
    balance = WALLET.c.balance_nanos + func.coalesce(pending.c.amount_nanos, 0)
    held = WALLET.c.held_nanos - func.coalesce(pending.c.released_nanos, 0)
    spendable = balance - held + WALLET.c.credit_limit_nanos
    return (
        select(
            Account.id,
            Account.username,
            Account.name,
            Account.deleted_at,
            WALLET.c.credit_limit_nanos,
            WALLET.c.low_balance_nanos,
            WALLET.c.when_empty,
            balance.label("balance_nanos"),
            held.label("held_nanos"),
            (balance - held).label("ongoing_nanos"),
            spendable.label("spendable_nanos"),
            _is_low(balance, spendable).label("is_low"),
        )
        .join(WALLET, WALLET.c.account_id == Account.id)
        .outerjoin(pending, pending.c.account_id == Account.id)
    )


def _is_low(balance: ColumnElement[int], spendable: ColumnElement[int]) -> ColumnElement[bool]:
    """Below what its owner or an admin has set, or nothing left to spend."""
    below = and_(WALLET.c.low_balance_nanos.is_not(None), balance < WALLET.c.low_balance_nanos)
    empty = and_(WALLET.c.credit_limit_nanos.is_not(None), spendable <= 0)
    return and_(Account.deleted_at.is_(None), or_(below, empty))


async def page(
    tx: Transaction,
    search: str = "",
    only_low: bool = False,
    order: str = "name",
    descending: bool = False,
    offset: int = 0,
    limit: int | None = PAGE_SIZE,
) -> Sequence[Row]:
    """Accounts with balance, held, ongoing (balance less held), credit limit and what is left to spend."""
    rows = _now().subquery()
    column = rows.c.username if order == "name" else rows.c[f"{order}_nanos"]
    statement = select(rows).where(rows.c.is_low if only_low else True)
    if search:
        statement = statement.where(rows.c.username.contains(search.lower(), autoescape=True))
    else:
        statement = statement.where(or_(rows.c.deleted_at.is_(None), rows.c.balance_nanos != 0))
    by = column.desc().nulls_last() if descending else column.asc().nulls_last()
    return await tx.all(statement.order_by(by, rows.c.username).offset(offset).limit(limit))


@dataclass(frozen=True, slots=True)
class Totals:
    paid_in_nanos: int
    """Above zero: what Accounts may still use."""
    owed_nanos: int
    held_nanos: int
    low: int


async def totals(tx: Transaction) -> Totals:
    rows = _now().subquery()
    above, below = rows.c.balance_nanos > 0, rows.c.balance_nanos < 0
    row = await tx.one(
        select(
            total(rows.c.balance_nanos, above),
            total(-rows.c.balance_nanos, below),
            total(rows.c.held_nanos),
            func.count().filter(rows.c.is_low),
        )
    )
    return Totals(*row)


async def usernames(tx: Transaction, ids: Collection[str]) -> dict[str, str]:
    """By Account id, for a page that shows them."""
    rows = await tx.all(select(Account.id, Account.username).where(one_of(Account.id, [*ids])))
    return {row.id: row.username for row in rows}


async def suggestions(tx: Transaction, limit: int = 200) -> list[str]:
    """Names to choose from; whoever has more types."""
    rows = await tx.all(
        select(Account.username).where(Account.deleted_at.is_(None)).order_by(Account.username).limit(limit)
    )
    return [row.username for row in rows]
