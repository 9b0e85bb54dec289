"""What an Account has run, page by page, the newest first."""

from datetime import datetime
from functools import cache
from typing import Any, Literal

from sqlalchemy import BigInteger, Select, Subquery, bindparam, case, cast, func, or_, select, text, tuple_

from core.database import Direct, Hot, Transaction
from core.endings import TABLE

# A page shows everything but logs, which may be a megabyte each, and of the rest not much more than this.
_PAGE_BYTES = 16 * 1024 * 1024
# Postgres tells no size but the stored one. What it has compressed is at most some 90 times that, mostly 3 to 5.
_COMPRESSION = 32
_LISTED = [column for column in TABLE.c if column is not TABLE.c.logs]
_LARGE = ("input", "output")
_ORDER = (TABLE.c.created_at.desc(), TABLE.c.id.desc())
# Written out, as the index of these few has it: what a parameter will be, no planner knows.
_FROM = {"web": text("source = 'web'")}


@cache
def _page(asked: frozenset[str], source: str | None) -> Hot:
    """The statement with just the conditions asked for, so that each is looked up in an index."""
    conditions = {
        "p_moment": tuple_(TABLE.c.created_at, TABLE.c.id) < tuple_(bindparam("p_moment"), bindparam("p_before")),
        "p_created_after": TABLE.c.created_at >= bindparam("p_created_after"),
        "p_created_before": TABLE.c.created_at < bindparam("p_created_before"),
    }
    statement = select(*_LISTED, (_weight(TABLE.c.input) + _weight(TABLE.c.output)).label("weight"))
    statement = statement.where(TABLE.c.account_id == bindparam("p_account"))
    statement = statement.where(*(condition for name, condition in conditions.items() if name in asked))
    if source is not None:
        statement = statement.where(_FROM[source])
    return Hot(_fitting(statement.order_by(*_ORDER).limit(bindparam("p_limit")).subquery()))


def _weight(column: Any) -> Any:
    """About how many bytes it has at most, told without reading it."""
    factor = case((func.pg_column_compression(column).is_(None), 1), else_=_COMPRESSION)
    return func.coalesce(cast(func.pg_column_size(column), BigInteger) * factor, 0)


def _fitting(rows: Subquery) -> Select:
    """The rows, those that are too much for one page without what is large in them. The first one always fits."""
    order = [rows.c.created_at.desc(), rows.c.id.desc()]
    total = func.sum(rows.c.weight).over(order_by=order, rows=(None, 0))
    fits = or_(total <= _PAGE_BYTES, total == rows.c.weight)
    shown = (case((fits, rows.c[c.name])).label(c.name) if c.name in _LARGE else rows.c[c.name] for c in _LISTED)
    return select(*shown, fits.label("fits")).order_by(*order)


async def list_page(
    tx: Transaction | Direct,
    account_id: str,
    limit: int,
    before: tuple | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    source: Literal["web"] | None = None,
) -> list[Any]:
    """Newest first, without logs; `before` is the (created_at, id) of the last one seen.

    From the first on that no longer `fits`, the page is full: they are for the next one.
    """
    moment, last = before or (None, None)
    limits = {"p_moment": moment, "p_created_after": created_after, "p_created_before": created_before}
    asked = frozenset(name for name, value in limits.items() if value is not None)
    parameters = {**limits, "p_account": account_id, "p_before": last, "p_limit": limit}
    return await tx.rows(_page(asked, source), parameters)
