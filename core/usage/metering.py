"""Usage records: facts, written once, in the transaction that ends what they measure."""

from datetime import date, timedelta
from typing import Any

from sqlalchemy import CTE, BigInteger, ColumnElement, Insert, Numeric, cast, func, insert, literal, select

from core.money.pricing import MICROS_PER_SECOND, MOST_CHARGE_NANOS
from core.tables import Account, UsageRecord

TABLE = UsageRecord.__table__
PREDICTION, INSTANCE = "prediction", "instance"
ACTIVE, SETUP, IDLE = PHASES = ("active", "setup", "idle")


def amount(micros: Any, nanos_per_second: Any) -> ColumnElement[int]:
    """`pricing.amount_nanos` in SQL. A month at a dollar a second is more than a bigint before it is divided."""
    exact = func.div(cast(micros, Numeric) * nanos_per_second, MICROS_PER_SECOND)
    return cast(func.least(exact, MOST_CHARGE_NANOS), BigInteger)


def measured(
    ended: CTE, micros: ColumnElement[int], units: ColumnElement[Any], units_nanos: ColumnElement[int]
) -> Insert:
    """The usage record of a prediction that is ending, at the prices frozen when it started; none without `micros`.

    With `units`, what they come to is charged instead of its seconds.
    """
    owner = select(Account.username).where(Account.id == ended.c.account_id).scalar_subquery()
    columns = {
        "id": literal("prediction:") + ended.c.id,
        "cause_kind": literal(PREDICTION),
        "cause_id": ended.c.id,
        "account_id": ended.c.account_id,
        "account_name": owner,
        "model": ended.c.model,
        "version_id": ended.c.version_id,
        "deployment": ended.c.deployment,
        "hardware_sku": ended.c.hardware_sku,
        "token_id": ended.c.token_id,
        "tags": ended.c.tags,
        "phase": literal(ACTIVE),
        "outcome": ended.c.status,
        "failure_code": ended.c.failure_code,
        "micros": micros,
        "price_id": ended.c.price_id,
        "price_nanos_per_second": ended.c.price_nanos_per_second,
        "units": units,
        "amount_nanos": func.coalesce(units_nanos, amount(micros, ended.c.price_nanos_per_second)),
        "day": func.date(func.timezone("UTC", ended.c.completed_at)),
        "started_at": ended.c.started_at,
        "ended_at": ended.c.completed_at,
    }
    return insert(UsageRecord).from_select(list(columns), select(*columns.values()).where(micros.is_not(None)))


def last_days(today: date, days: int) -> tuple[date, date]:
    return today - timedelta(days=days - 1), today
