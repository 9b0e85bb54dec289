"""Usage records: facts, written once, in the transaction that ends what they measure."""

from datetime import date, timedelta
from typing import Any

from sqlalchemy import CTE, BigInteger, ColumnElement, Insert, func, insert, literal, literal_column, select

from core.database import Transaction
from core.pricing import MICROS_PER_SECOND
from core.tables import UsageRecord

TABLE = UsageRecord.__table__


def measured(ended: CTE, micros: ColumnElement[int]) -> Insert:
    """The usage record of a prediction that is ending, at the price frozen when it started; none without `micros`.

    The amount is `pricing.amount_nanos` in SQL: bigint division rounds down as well.
    """
    columns = {
        "id": literal("prediction:") + ended.c.id,
        "cause_kind": literal("prediction"),
        "cause_id": ended.c.id,
        "account_id": ended.c.account_id,
        "model": ended.c.model,
        "version_id": ended.c.version_id,
        "hardware_sku": ended.c.hardware_sku,
        "micros": micros,
        "price_nanos_per_second": ended.c.price_nanos_per_second,
        "amount_nanos": micros * ended.c.price_nanos_per_second // literal_column(str(MICROS_PER_SECOND), BigInteger),
        "day": func.date(func.timezone("UTC", ended.c.completed_at)),
        "ended_at": ended.c.completed_at,
    }
    return insert(UsageRecord).from_select(list(columns), select(*columns.values()).where(micros.is_not(None)))


async def summary(tx: Transaction, account_id: str, first: date, last: date) -> list[dict[str, Any]]:
    """One row per day, Model and Hardware, both days included, newest day first."""
    keys = (UsageRecord.day, UsageRecord.model, UsageRecord.hardware_sku)
    rows = await tx.all(
        select(
            *keys,
            func.count().label("runs"),
            func.sum(UsageRecord.micros).label("micros"),
            func.sum(UsageRecord.amount_nanos).label("amount_nanos"),
        )
        .where(UsageRecord.account_id == account_id, UsageRecord.day.between(first, last))
        .group_by(*keys)
        .order_by(UsageRecord.day.desc(), UsageRecord.model, UsageRecord.hardware_sku)
    )
    return [row._asdict() for row in rows]


def last_days(today: date, days: int) -> tuple[date, date]:
    return today - timedelta(days=days - 1), today
