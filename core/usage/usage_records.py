"""Usage records as they are read: page by page, newest first, or all of them, for an export. Writes nothing."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select, tuple_

from core.database import Database, Transaction
from core.tables import UsageRecord

TABLE = UsageRecord.__table__

#: Written down in some twenty milliseconds, during which an api process answers nobody else.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """Those that ended from `since` to `until`, which is excluded; of one Account, or of all. `""`: without any."""

    since: datetime
    until: datetime
    account_id: str | None = None
    model: str | None = None
    version: str | None = None
    deployment: str | None = None
    hardware: str | None = None
    token: str | None = None
    phase: str | None = None
    outcome: str | None = None
    tag: tuple[str, str] | None = None
    least_nanos: int | None = None


async def page(tx: Transaction, filter: Filter, limit: int, before: tuple[datetime, str] | None = None) -> list[Row]:
    """`before` is the (ended_at, id) of the last one seen."""
    # Of all Accounts there is an index by day only: one day is sorted, not everything.
    by_day = [TABLE.c.day] if filter.account_id is None else []
    order = (TABLE.c.ended_at, TABLE.c.id)
    found = _chosen(filter)
    if before is not None:
        found = found.where(tuple_(*order) < tuple_(*before))
        found = found.where(TABLE.c.day <= before[0].date()) if by_day else found
    return list(await tx.all(found.order_by(*(column.desc() for column in (*by_day, *order))).limit(limit)))


async def stream(database: Database, filter: Filter, batch: int = _BATCH) -> AsyncIterator[Sequence[Row]]:
    """All of them, Account by Account, oldest first; a transaction for each batch, so that nothing is held open."""
    of_one = (TABLE.c.ended_at, TABLE.c.id)
    order = of_one if filter.account_id is not None else (TABLE.c.account_id, *of_one)
    last: Row | None = None
    while True:
        found = _chosen(filter)
        if last is not None:
            seen = [getattr(last, column.name) for column in order]
            # The first condition is what an index begins with.
            found = found.where(order[0] >= seen[0], tuple_(*order) > tuple_(*seen))
        async with database.autocommit() as tx:
            rows = await tx.all(found.order_by(*order).limit(batch))
        if rows:
            yield rows
            last = rows[-1]
        if len(rows) < batch:
            return


def _chosen(filter: Filter) -> Select:
    conditions: list[Any] = [TABLE.c.ended_at >= filter.since, TABLE.c.ended_at < filter.until]
    if filter.account_id is None:
        # `day` is that of `ended_at`.
        conditions += [TABLE.c.day >= filter.since.date(), TABLE.c.day <= filter.until.date()]
    equal = {
        TABLE.c.account_id: filter.account_id,
        TABLE.c.model: filter.model,
        TABLE.c.version_id: filter.version,
        TABLE.c.deployment: filter.deployment,
        TABLE.c.hardware_sku: filter.hardware,
        TABLE.c.token_id: filter.token,
        TABLE.c.phase: filter.phase,
        TABLE.c.outcome: filter.outcome,
    }
    conditions += [
        column == value if value else column.is_(None) for column, value in equal.items() if value is not None
    ]
    if filter.tag is not None:
        conditions.append(TABLE.c.tags.contains(dict([filter.tag])))
    if filter.least_nanos is not None:
        conditions.append(TABLE.c.amount_nanos >= filter.least_nanos)
    return select(TABLE).where(*conditions)
