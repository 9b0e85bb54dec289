"""Charges given back: by hand, in whole or in part, or by rule. Never more than was charged.

The charge stays as it is: a refund is a transaction of its own that refers to it.
"""

from collections.abc import Collection, Sequence
from datetime import date

from sqlalchemy import Row, func, literal, or_, select, tuple_
from sqlalchemy.orm import aliased

from core.database import Transaction, one_of
from core.errors import Conflict, Invalid, NotFound
from core.ids import new_id
from core.money import credits, ledger, wallets
from core.money.ledger import Kind
from core.money.pricing import dollars
from core.people import audit
from core.tables import LedgerEntry, UsageRecord, Volume

_RULE = "refund rule"
#: A pass's worth: the rest is found by the next one.
_AT_ONCE = 100
#: What ended longer ago was found then, or a rule has been set since, and is not meant for it.
_RULE_DAYS = 2


async def usage_of(tx: Transaction, prediction_id: str) -> Row:
    """What a prediction used. Raises `NotFound`."""
    row = await tx.first(select(UsageRecord).where(UsageRecord.id == f"prediction:{prediction_id}"))
    if row is None:
        raise NotFound("This prediction has not been charged: it has not ended, never ran, or does not exist.")
    return row


async def refundable(tx: Transaction, usage: Row) -> int:
    """What of a charge has not been given back yet: waived, discounted, or refunded."""
    own = ledger.account(usage.account_id)
    back = select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0)).where(
        LedgerEntry.ledger_account == own, LedgerEntry.corrects == usage.id
    )
    waived = select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0)).where(
        LedgerEntry.transaction_id == f"{usage.id}:waiver", LedgerEntry.ledger_account == own
    )
    given_back, was_waived = await tx.one(select(back.scalar_subquery(), waived.scalar_subquery()))
    left = usage.amount_nanos - int(given_back) - int(was_waived)
    # What was waived in part counts for no volume.
    return max(0, left if was_waived else await _without_discount(tx, usage, left))


async def _without_discount(tx: Transaction, usage: Row, left: int) -> int:
    """Less its share of what the month's volume gave back, rounded up.

    Nor more than all charges of the month have left together: one may have been refunded whole before others, which
    are cheaper because of it, were given their discount.
    """
    ids = [usage.price_id] if usage.units is None else [line["price_id"] for line in usage.units]
    month = usage.day.replace(day=1)
    of_month = (Volume.account_id == usage.account_id, Volume.month == month, Volume.price_id.in_(ids))
    sums = select(func.coalesce(func.sum(Volume.list_nanos), 0), func.coalesce(func.sum(Volume.discount_nanos), 0))
    listed, back = map(int, await tx.one(sums.where(*of_month)))
    if not back:
        return left
    share = -(-usage.amount_nanos * back // listed)
    return min(left - share, listed - back - await _refunded(tx, usage.account_id, month, ids))


async def _refunded(tx: Transaction, account_id: str, month: date, price_ids: Sequence[str]) -> int:
    """Of whole charges at these prices."""
    at_price = [UsageRecord.units.is_(None) & UsageRecord.price_id.in_(price_ids)]
    at_price += [UsageRecord.units.contains([{"price_id": id}]) for id in price_ids]
    total = select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0)).join(
        UsageRecord, UsageRecord.id == LedgerEntry.corrects
    )
    waiver = aliased(LedgerEntry)
    is_whole = ~select(waiver.id).where(waiver.transaction_id == UsageRecord.id + ":waiver").exists()
    own = (LedgerEntry.ledger_account == ledger.account(account_id), LedgerEntry.kind == Kind.REFUND.value, is_whole)
    of_month = func.date_trunc("month", UsageRecord.day) == func.date_trunc("month", literal(month))
    return int(await tx.scalar(total.where(*own, of_month, or_(*at_price))))


async def give(
    tx: Transaction, usage: Row, *, reason: str, actor: str, amount_nanos: int | None = None, id: str | None = None
) -> int:
    """Gives so much of a charge back, or all that is left of it; returns nanodollars.

    Raises `Conflict` where less is left, `Invalid` for no amount.
    """
    if not reason.strip():
        raise Invalid("Say why it is refunded: whoever looks at the bill will ask.")
    wallet = await wallets.lock(tx, usage.account_id)
    left = await refundable(tx, usage)
    amount = left if amount_nanos is None else amount_nanos
    if amount <= 0 and amount_nanos is not None:
        raise Invalid("A refund is more than 0 dollars.")
    if amount > left or not amount:
        raise Conflict(
            f"Of this charge of {dollars(usage.amount_nanos)} dollars, {dollars(left)} are left to be given back."
        )
    id, own = id or f"refund:{new_id()}", ledger.account(usage.account_id)
    money = {"amount_nanos": amount, "actor": actor, "reason": reason}
    await ledger.move(tx, id, Kind.REFUND, debit=ledger.REVENUE, credit=own, corrects=usage.id, **money)
    await credits.give_back(tx, usage.account_id, id, amount, reason, actor)
    await audit.record(
        tx,
        "charge.refund",
        usage.id,
        account_id=usage.account_id,
        before={"balance": dollars(wallet.balance_nanos)},
        after={"balance": dollars(wallet.balance_nanos + amount), "refunded": dollars(amount), "reason": reason},
    )
    return amount


async def by_rule(tx: Transaction, failure_codes: Collection[str]) -> int:
    """Gives back what failed for one of these reasons and was charged; how many."""
    given_back = select(LedgerEntry.id).where(LedgerEntry.corrects == UsageRecord.id).exists()
    today = func.date(func.timezone("UTC", func.now()))
    due = select(UsageRecord).where(
        UsageRecord.day > today - _RULE_DAYS,
        one_of(UsageRecord.failure_code, failure_codes),
        UsageRecord.amount_nanos > 0,
        ~given_back,
    )
    place = (UsageRecord.account_id, UsageRecord.id)
    found, count = await tx.all(due.order_by(*place).limit(_AT_ONCE)), 0
    while found and not count:
        count = sum([await _by_rule(tx, usage) for usage in found])
        # What was free is found again by each pass: it must not be all that a pass finds.
        after = tuple_(*place) > tuple_(literal(found[-1].account_id), literal(found[-1].id))
        found = await tx.all(due.where(after).order_by(*place).limit(_AT_ONCE)) if not count else []
    return count


async def _by_rule(tx: Transaction, usage: Row) -> bool:
    if not await refundable(tx, usage):
        return False
    reason = f"Runs that end with {usage.failure_code} are not charged."
    await give(tx, usage, reason=reason, actor=_RULE, id=f"refund:rule:{usage.id}")
    return True
