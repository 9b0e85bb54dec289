"""Free units, and cheaper ones beyond a volume: counted by the month, and given back after the charge.

A run is charged its list price when it ends, which needs no counter that others wait for. `wallets.fold` counts, and
gives back what the price's steps say, within a second or so.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Numeric, Row, Select, and_, bindparam, cast, func, literal, select, union_all
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.ids import new_id
from core.money import ledger, prices
from core.money.pricing import MICROS_PER_SECOND, discount_nanos
from core.tables import Price, UsageRecord, Volume, WalletPosting

_RECORD, _VOLUME = UsageRecord.__table__, Volume.__table__
_RULE = "volume prices"
#: Seconds are counted in microseconds; units in thousandths, since seconds of video come with three digits.
_PARTS_OF_SECOND, _PARTS_OF_UNIT = MICROS_PER_SECOND, 1000


async def give(tx: Transaction, posting_ids: Sequence[int]) -> dict[str, int]:
    """Counts what these postings used of prices with volume terms; returns what is given back, by Account."""
    given: dict[str, int] = defaultdict(int)
    for used in (await tx.execute(_USED, {"p_postings": list(posting_ids)})).all():
        given[used.account_id] += await _count(tx, used)
    return {account_id: nanos for account_id, nanos in given.items() if nanos}


def _used() -> Select:
    """Of postings, per Account, price and month: units, and what they were charged."""
    month = cast(func.date_trunc("month", _RECORD.c.day), _RECORD.c.day.type)
    postings = select(WalletPosting.usage_record_id, WalletPosting.amount_nanos).where(
        WalletPosting.id == func.any(bindparam("p_postings", type_=ARRAY(BigInteger))), WalletPosting.amount_nanos < 0
    )
    postings = postings.subquery()
    # A run that was waived in part has been given back more than its volume would: it does not count.
    whole = and_(postings.c.usage_record_id == _RECORD.c.id, postings.c.amount_nanos == -_RECORD.c.amount_nanos)
    by_second = (
        select(
            _RECORD.c.account_id,
            _RECORD.c.price_id,
            month.label("month"),
            _RECORD.c.micros.label("units"),
            -postings.c.amount_nanos,
        )
        .join(postings, whole)
        .where(_RECORD.c.units.is_(None))
    )
    line = func.jsonb_array_elements(_RECORD.c.units).table_valued("value").lateral("line")
    value = cast(line.c.value, JSONB)
    by_unit = (
        select(
            _RECORD.c.account_id,
            value["price_id"].astext,
            month,
            cast(cast(value["quantity"].astext, Numeric) * _PARTS_OF_UNIT, BigInteger),
            cast(value["amount_nanos"].astext, BigInteger),
        )
        .join(postings, whole)
        .join(line, literal(True))
        .where(_RECORD.c.units.is_not(None))
    )
    used = union_all(by_second, by_unit).subquery("used")
    account_id, price_id, month_of, units, charged = used.c
    return (
        select(
            account_id,
            month_of.label("month"),
            func.sum(units).label("units"),
            func.sum(charged).label("charged_nanos"),
            *Price.__table__.c,
        )
        .join(Price, Price.id == price_id)
        .where(prices.has_volume_terms())
        .group_by(account_id, month_of, *Price.__table__.c)
    )


# Built once: that takes longer than to run it.
_USED = _used()


async def _count(tx: Transaction, used: Row) -> int:
    """Moves the counter of a price, and gives back what that makes cheaper."""
    key = {"account_id": used.account_id, "price_id": used.id, "month": used.month}
    before = await tx.scalar(select(_VOLUME.c.units).filter_by(**key)) or 0
    units, charged = int(used.units), int(used.charged_nanos)
    back = discount_nanos(before, units, charged, _terms(used), _parts(used))
    counted = {"units": units, "list_nanos": charged, "discount_nanos": back}
    adding = upsert(_VOLUME).values(**key, **counted)
    sums = {name: _VOLUME.c[name] + adding.excluded[name] for name in counted}
    await tx.execute(adding.on_conflict_do_update(index_elements=list(key), set_=sums))
    if back:
        reason = f"Volume price of {used.subject} ({used.metric}), {used.month:%Y-%m}"
        own = ledger.account(used.account_id)
        move = {"debit": ledger.DISCOUNTS, "credit": own, "amount_nanos": back, "actor": _RULE, "reason": reason}
        await ledger.move(tx, f"discount:{new_id()}", ledger.Kind.DISCOUNT, **move)
    return back


def _parts(price: Row) -> int:
    return _PARTS_OF_SECOND if price.metric == prices.SECOND else _PARTS_OF_UNIT


def _terms(price: Row) -> dict[str, Any]:
    """With its units counted in parts."""
    parts = _parts(price)
    steps = [{"above": step["above"] * parts, "nanos_per_unit": step["nanos_per_unit"]} for step in price.steps]
    return {"nanos_per_unit": price.nanos_per_unit, "free_units": price.free_units * parts, "steps": steps}
