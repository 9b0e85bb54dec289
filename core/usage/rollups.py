"""Usage records, summed up by hour, by day, and by tag, so that pages need not read millions of them.

Added to only by `wallets.fold`, under the lock of the Account's wallet. `rebuild` of a day is what reconciliation
compares with.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Numeric,
    Select,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.money import prices
from core.money.pricing import MICROS_PER_HOUR
from core.tables import UsageDay, UsageHour, UsageRecord, UsageTag, WalletPosting
from core.usage.metering import PREDICTION

RECORD = UsageRecord.__table__
_SUMS = ("runs", "micros", "amount_nanos", "cost_nanos")
_NONE = literal_column("''")


def _hour() -> Any:
    return func.date_trunc("hour", RECORD.c.ended_at, "UTC")


_KEYS: dict[str, Any] = {
    "hour": _hour(),
    "day": RECORD.c.day,
    "account_id": RECORD.c.account_id,
    "model": RECORD.c.model,
    "version_id": RECORD.c.version_id,
    "deployment": func.coalesce(RECORD.c.deployment, _NONE),
    "hardware_sku": RECORD.c.hardware_sku,
    "token_id": func.coalesce(RECORD.c.token_id, _NONE),
    "phase": RECORD.c.phase,
    "outcome": func.coalesce(RECORD.c.outcome, _NONE),
}


def cost() -> Any:
    """What a record's Hardware cost the operator meanwhile. The time of predictions is within that of their Instances,
    so it is those that cost."""
    book = prices.standing(prices.COST, RECORD.c.hardware_sku, None, RECORD.c.ended_at)
    per_hour = select(book.c.nanos_per_unit).scalar_subquery()
    # An hour of a machine that costs 3 dollars is more than a bigint of both holds.
    nanos = cast(RECORD.c.micros, Numeric) * func.coalesce(per_hour, 0) / MICROS_PER_HOUR
    return case((RECORD.c.cause_kind == PREDICTION, 0), else_=cast(func.floor(nanos), BigInteger))


def summed(table: Any) -> Select:
    """Usage records by the keys of one of the roll-up tables, with its sums."""
    keys = [_KEYS[column.name].label(column.name) for column in table.primary_key]
    runs = func.count().filter(RECORD.c.cause_kind == PREDICTION)
    sums = {
        "runs": runs,
        "micros": func.sum(RECORD.c.micros),
        "amount_nanos": func.sum(RECORD.c.amount_nanos),
        "cost_nanos": func.sum(cost()),
    }
    return select(*keys, *(sum.label(name) for name, sum in sums.items())).group_by(
        *(_KEYS[c.name] for c in table.primary_key)
    )


async def add(tx: Transaction, posting_ids: Sequence[int]) -> None:
    """The usage records of these postings."""
    for adding in _ADD:
        await tx.execute(adding, {"p_postings": list(posting_ids)})


def tagged() -> Select:
    """Usage records once for each of their tags, summed up."""
    tag = func.jsonb_each_text(RECORD.c.tags).table_valued("key", "value").lateral("tag")
    keys = (RECORD.c.account_id, RECORD.c.day, tag.c.key, tag.c.value, RECORD.c.model)
    runs = func.count().filter(RECORD.c.cause_kind == PREDICTION)
    sums = (runs, func.sum(RECORD.c.micros), func.sum(RECORD.c.amount_nanos))
    return select(*keys, *sums).join_from(RECORD, tag, literal(True)).where(RECORD.c.tags.is_not(None)).group_by(*keys)


def _adding(table: Any, rows: Select, sums: Sequence[str]) -> Any:
    keys = [column.name for column in table.primary_key]
    adding = upsert(table).from_select([*keys, *sums], rows)
    return adding.on_conflict_do_update(
        index_elements=keys, set_={name: table.c[name] + adding.excluded[name] for name in sums}
    )


def _of_postings(rows: Select) -> Select:
    ids = bindparam("p_postings", type_=ARRAY(BigInteger))
    return rows.where(RECORD.c.id.in_(select(WalletPosting.usage_record_id).where(WalletPosting.id == func.any(ids))))


# Built once: that takes longer than to run them.
_ADD = (
    *(_adding(table, _of_postings(summed(table)), _SUMS) for table in (UsageHour.__table__, UsageDay.__table__)),
    _adding(UsageTag.__table__, _of_postings(tagged()), _SUMS[:3]),
)
