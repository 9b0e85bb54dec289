"""The price book: what a second of a Hardware, or a unit that a Model counts, costs from a moment on.

Append only. Whoever starts a run looks up what holds then and freezes it, with the price's id, so that every charge can
be computed again from the book.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, TableValuedAlias, func, insert, literal, or_, select
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.errors import Conflict, Invalid
from core.ids import new_id
from core.money.pricing import NANOS_PER_DOLLAR, dollars
from core.people import audit
from core.tables import Hardware, Price

TABLE = Price.__table__
HARDWARE, MODEL, COST = "hardware", "model", "cost"
SECOND, HOUR = "second", "hour"

#: A million dollars for a unit of anything is a slip of the pen.
MOST_NANOS_PER_UNIT = 1_000_000 * NANOS_PER_DOLLAR
MOST_UNITS = 10**15


def standing(kind: str, subject: Any, account_id: Any, at: Any) -> TableValuedAlias:
    """The prices that hold at a moment, one row per metric: the Account's own, else that for everybody.

    A function of the database, so that a statement that prices what it changes reads as one.
    """
    arguments = (literal(kind), subject, literal(None) if account_id is None else account_id, at)
    return func.standing_prices(*arguments).table_valued(
        *(sql_column(c.name, c.type) for c in TABLE.c), name="standing"
    )


def second_of(sku: Any, account_id: Any, at: Any) -> tuple[ColumnElement[str], ColumnElement[int]]:
    """The id and the nanodollars of a second of a Hardware, as two scalar subqueries; 0 where nobody has set any."""
    found = standing(HARDWARE, sku, account_id, at)
    nanos = select(found.c.nanos_per_unit).scalar_subquery()
    return select(found.c.id).scalar_subquery(), func.coalesce(nanos, 0)


def units_of(model: Any, account_id: Any, at: Any) -> ColumnElement[Any]:
    """{metric: {id, nanos}} of a Model that is priced by what it makes; null for one that is priced by the second."""
    found = standing(MODEL, model, account_id, at)
    price = func.jsonb_build_object("id", found.c.id, "nanos", found.c.nanos_per_unit)
    return select(func.jsonb_object_agg(found.c.metric, price)).select_from(found).scalar_subquery()


async def open_hardware(tx: Transaction, sku: str, nanos_per_second: int) -> None:
    """The list price of a Hardware that has come to be known, since ever; one that has a price keeps it."""
    first = upsert(TABLE).values(
        id=f"{HARDWARE}:{sku}",
        kind=HARDWARE,
        subject=sku,
        nanos_per_unit=nanos_per_second,
        effective_from=func.to_timestamp(0),
        created_by="the list",
    )
    await tx.execute(first.on_conflict_do_nothing(index_elements=["id"]))


async def put(
    tx: Transaction,
    *,
    kind: str,
    subject: str,
    nanos_per_unit: int | None,
    created_by: str,
    metric: str = SECOND,
    account_id: str | None = None,
    free_units: int = 0,
    steps: Sequence[Mapping[str, int]] = (),
    effective_from: datetime | None = None,
    reason: str | None = None,
    id: str | None = None,
) -> Row:
    """Opens a price, now or at a later moment. What has started keeps its own. Raises `Invalid`, `Conflict`."""
    await _check(tx, kind, subject, metric, nanos_per_unit, free_units, steps)
    if effective_from is not None and await tx.scalar(select(func.now() > effective_from)):
        raise Conflict("A price cannot begin in the past: what ran then has been charged. Refund it instead.")
    row = await tx.one(
        insert(TABLE)
        .values(
            id=id or new_id(),
            kind=kind,
            subject=subject,
            metric=metric,
            account_id=account_id,
            nanos_per_unit=nanos_per_unit,
            free_units=free_units,
            steps=[dict(step) for step in steps],
            effective_from=effective_from or func.now(),
            created_by=created_by,
            reason=reason,
        )
        .returning(TABLE)
    )
    after = {
        "metric": metric,
        "dollars_per_unit": None if nanos_per_unit is None else dollars(nanos_per_unit),
        "free_units": free_units,
        "steps": list(row.steps),
        "effective_from": row.effective_from.isoformat(),
        "reason": reason,
    }
    await audit.record(tx, "price.set", f"{kind}:{subject}", account_id=account_id, after=after)
    return row


async def _check(
    tx: Transaction,
    kind: str,
    subject: str,
    metric: str,
    nanos_per_unit: int | None,
    free_units: int,
    steps: Sequence[Mapping[str, int]],
) -> None:
    problems = []
    if kind != MODEL:
        wanted = HOUR if kind == COST else SECOND
        if metric != wanted:
            problems.append(f"A price of kind {kind} is by the {wanted}.")
        if await tx.first(select(Hardware.sku).where(Hardware.sku == subject)) is None:
            problems.append(f"There is no hardware {subject}.")
    elif metric in (SECOND, HOUR) or not metric.isidentifier():
        problems.append("Name the metric that the model records, like image_count.")
    rates = [nanos_per_unit or 0, *(step["nanos_per_unit"] for step in steps)]
    if not all(0 <= rate <= MOST_NANOS_PER_UNIT for rate in rates):
        problems.append(f"A price is between 0 and {dollars(MOST_NANOS_PER_UNIT)} dollars.")
    if not all(0 <= units <= MOST_UNITS for units in (free_units, *(step["above"] for step in steps))):
        problems.append(f"Units are between 0 and {MOST_UNITS}.")
    if nanos_per_unit is not None and any(step["nanos_per_unit"] > nanos_per_unit for step in steps):
        problems.append("Steps give something back, so none may cost more than the price itself.")
    if problems:
        raise Invalid(" ".join(problems))


async def book(tx: Transaction, kind: str | None = None, subject: str | None = None) -> Sequence[Row]:
    """Every price there is or was, the latest first."""
    chosen = [
        column == value for column, value in ((TABLE.c.kind, kind), (TABLE.c.subject, subject)) if value is not None
    ]
    order = (TABLE.c.kind, TABLE.c.subject, TABLE.c.metric, TABLE.c.effective_from.desc(), TABLE.c.created_at.desc())
    return await tx.all(select(TABLE).where(*chosen).order_by(*order))


def has_volume_terms() -> ColumnElement[bool]:
    """Whether a price gives anything back for volume."""
    return or_(TABLE.c.free_units > 0, func.jsonb_array_length(TABLE.c.steps) > 0)
