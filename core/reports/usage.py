"""Usage summed up, from the roll-ups: by day and Account, Model, Hardware, phase, Token, tag.

Roll-ups are a second or so behind what has ended. Time is told twice: that of runs, and that of the Instances they ran
in, which includes it; money and cost can be added.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, case, func, literal, select

from core.database import Transaction, one_of
from core.reports.filters import COLUMNS, Filter
from core.reports.totals import Whole, total
from core.tables import UsageDay, UsageHour, UsageTag

DAYS, HOURS, TAGS = UsageDay.__table__, UsageHour.__table__, UsageTag.__table__
DAY, TAG = "day", "tag"
DIMENSIONS = (*COLUMNS, DAY, TAG)
#: More rows than this are a download, not a table.
MOST_ROWS = 500
SUMS = ("runs", "run_micros", "instance_micros", "amount_nanos", "cost_nanos")


@dataclass(frozen=True, slots=True)
class Source:
    """The roll-up that can answer, and its columns by dimension."""

    table: Any
    columns: dict[str, Any]
    conditions: list[ColumnElement[bool]]

    @property
    def sums(self) -> list[Any]:
        c = self.table.c
        if self.table is TAGS:
            zero = literal(0, Whole)
            values = (total(c.runs), total(c.micros), zero, total(c.amount_nanos), zero)
        else:
            # Only predictions have an outcome.
            of_runs, of_instances = c.outcome != "", c.outcome == ""
            run, instance = total(c.micros, of_runs), total(c.micros, of_instances)
            values = (total(c.runs), run, instance, total(c.amount_nanos), total(c.cost_nanos))
        return [value.label(name) for name, value in zip(SUMS, values, strict=True)]

    def select(self, *columns: Any) -> Select:
        return select(*columns, *self.sums).where(*self.conditions)


def source(filter: Filter, *dimensions: str, hourly: bool = False) -> Source:
    """The smallest roll-up that knows all of these."""
    if filter.tag is not None or TAG in dimensions:
        return _of_tags(filter)
    needs_hours = hourly or filter.token is not None or "token" in dimensions
    table = HOURS if needs_hours else DAYS
    columns = {name: table.c[column] for name, column in COLUMNS.items() if column in table.c}
    if table is HOURS:
        columns[DAY] = func.date(func.timezone("UTC", HOURS.c.hour))
        within = [HOURS.c.hour >= filter.since, HOURS.c.hour < filter.until]
    else:
        columns[DAY] = DAYS.c.day
        within = [DAYS.c.day.between(filter.first, filter.last)]
    return Source(table, columns, [*within, *filter.conditions(table)])


def _of_tags(filter: Filter) -> Source:
    columns = {"account": TAGS.c.account_id, "model": TAGS.c.model, DAY: TAGS.c.day}
    columns[TAG] = TAGS.c.key + "=" + TAGS.c.value
    conditions = [TAGS.c.day.between(filter.first, filter.last), *filter.conditions(TAGS)]
    if filter.tag is not None:
        key, value = filter.tag
        conditions += [TAGS.c.key == key, TAGS.c.value == value]
    return Source(TAGS, columns, conditions)


async def totals(tx: Transaction, filter: Filter) -> Row:
    """One row of sums."""
    return await tx.one(source(filter).select())


async def by(tx: Transaction, filter: Filter, dimension: str, limit: int | None = MOST_ROWS) -> Sequence[Row]:
    """(name, sums): the dearest first, days the newest first."""
    found = source(filter, dimension)
    name = found.columns[dimension].label("name")
    dearest = (func.sum(found.table.c.amount_nanos).desc(), func.sum(found.table.c.micros).desc())
    order = (name.desc(),) if dimension == DAY else (*dearest, name)
    return await tx.all(found.select(name).group_by(name).order_by(*order).limit(limit))


async def over_time(
    tx: Transaction, filter: Filter, dimension: str, names: Sequence[str], hourly: bool = False
) -> Sequence[Row]:
    """(moment, name, amount_nanos, micros): by day, or by hour; what is not of these `names` together as None."""
    found = source(filter, dimension, hourly=hourly)
    column = found.columns[dimension]
    name = case((one_of(column, names), column), else_=None).label("name")
    moment = (HOURS.c.hour if hourly else found.columns[DAY]).label("moment")
    sums = (total(found.table.c.amount_nanos).label("amount_nanos"), total(found.table.c.micros).label("micros"))
    return await tx.all(select(moment, name, *sums).where(*found.conditions).group_by(moment, name))


async def daily(tx: Transaction, filter: Filter, dimension: str) -> Sequence[Row]:
    """(moment, name, amount_nanos) of each day: for what has few names, in one look instead of two."""
    found = source(filter, dimension)
    keys = (found.columns[DAY].label("moment"), found.columns[dimension].label("name"))
    amount = total(found.table.c.amount_nanos).label("amount_nanos")
    return await tx.all(select(*keys, amount).where(*found.conditions).group_by(*keys))


async def charged_between(tx: Transaction, since: datetime, until: datetime, account_id: str | None) -> int:
    """What was charged from the full hour `since` on; of the hour in which `until` lies, the share that is over."""
    hour = until.replace(minute=0, second=0, microsecond=0)
    of_account = [] if account_id is None else [HOURS.c.account_id == account_id]
    whole = total(HOURS.c.amount_nanos, HOURS.c.hour < hour)
    last = total(HOURS.c.amount_nanos, HOURS.c.hour == hour)
    row = await tx.one(select(whole, last).where(HOURS.c.hour >= since, HOURS.c.hour <= hour, *of_account))
    seconds = int((until - hour).total_seconds())
    return row[0] + row[1] * seconds // 3600


@dataclass(frozen=True, slots=True)
class Pace:
    """What was charged today and this month so far, and in the same spans of yesterday and last month."""

    today: int
    yesterday: int
    month: int
    last_month: int


async def pace(tx: Transaction, now: datetime, account_id: str | None = None) -> Pace:
    midnight, day = now.replace(hour=0, minute=0, second=0, microsecond=0), timedelta(days=1)
    month = midnight.replace(day=1)
    last_month = (month - day).replace(day=1)
    # As far into last month as it is into this one, where that one is as long; of its last day, the share.
    same = min(last_month + (now - month), month)
    share = (same - same.replace(hour=0, minute=0, second=0, microsecond=0)) // timedelta(seconds=1)
    column, amount = DAYS.c.day, DAYS.c.amount_nanos
    within = [column.between(last_month.date(), midnight.date())]
    row = await tx.one(
        select(
            total(amount, column == midnight.date()).label("today"),
            total(amount, column >= month.date()).label("month"),
            total(amount, column < same.date()).label("last_month"),
            total(amount, column == same.date()).label("last_day"),
        ).where(*within, *([] if account_id is None else [DAYS.c.account_id == account_id]))
    )
    return Pace(
        today=row.today,
        yesterday=await charged_between(tx, midnight - day, now - day, account_id),
        month=row.month,
        last_month=row.last_month + (row.last_day * share // (24 * 3600) if same < month else 0),
    )
