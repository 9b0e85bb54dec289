"""Usage records: facts, written once, in the transaction that ends what they measure."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select

from core import ledger
from core.database import Transaction
from core.ids import new_id
from core.pricing import amount_nanos
from core.tables import UsageRecord


@dataclass(frozen=True, slots=True)
class Usage:
    """What ran, for whom, how long by the worker's monotonic clock, at the price frozen when it started."""

    cause_kind: str
    cause_id: str
    account_id: str
    model: str
    version_id: str
    hardware_sku: str
    micros: int
    price_nanos_per_second: int
    ended_at: datetime


async def record(tx: Transaction, usage: Usage) -> int:
    """Writes the record and charges it; a second one for its cause fails. Returns nanodollars."""
    amount = amount_nanos(usage.micros, usage.price_nanos_per_second)
    record_id = new_id()
    await tx.execute(
        insert(UsageRecord).values(
            id=record_id,
            cause_kind=usage.cause_kind,
            cause_id=usage.cause_id,
            account_id=usage.account_id,
            model=usage.model,
            version_id=usage.version_id,
            hardware_sku=usage.hardware_sku,
            micros=usage.micros,
            price_nanos_per_second=usage.price_nanos_per_second,
            amount_nanos=amount,
            day=usage.ended_at.astimezone(UTC).date(),
            ended_at=usage.ended_at,
        )
    )
    await ledger.charge_usage(tx, usage.account_id, record_id, amount)
    return amount


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
