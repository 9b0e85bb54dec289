"""What was used, in sums: by hour, day or month and by any keys, from the smallest roll-up that can tell.

Exact as of the last fold, about a second ago; `freshness` says how far that is. The records themselves are in
`core/usage/usage_records.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    FromClause,
    Row,
    Select,
    Subquery,
    case,
    cast,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
)

from core.database import Transaction, one_of
from core.errors import Invalid
from core.tables import Account, UsageDay, UsageHour, UsageRecord, UsageTag, WalletPosting
from core.usage import rollups

_HOURS, _DAYS, _TAGS = UsageHour.__table__, UsageDay.__table__, UsageTag.__table__

#: What a sum may be of: its name, and the column of a roll-up. `tag:<name>` comes on top.
KEYS = {
    "account": "account_id",
    "model": "model",
    "version": "version_id",
    "deployment": "deployment",
    "hardware": "hardware_sku",
    "token": "token_id",
    "phase": "phase",
    "outcome": "outcome",
}
TAG = "tag"
_ONLY_IN_HOURS = {"version", "token"}
_IN_TAGS = {"account", "model"}

#: More is no answer but an export.
MOST_ROWS = 10_000
_MOST_DAYS = 1100
_MOST_HOURS = 31 * 24


class Grain(StrEnum):
    """What a row is about: UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Question:
    """From `since` to `until`, which is excluded; of one Account, or of all. `""` in `where`: those without."""

    since: datetime
    until: datetime
    by: Grain | None = None
    group: Sequence[str] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    group_tag: str | None = None
    where_tag: tuple[str, str] | None = None
    account_id: str | None = None

    @property
    def keys(self) -> set[str]:
        return {*self.group, *self.where}


@dataclass(frozen=True, slots=True)
class Freshness:
    folded_until: datetime
    """What ended before is in the sums."""
    pending: int
    """Records that are not in them yet."""


async def sums(tx: Transaction, question: Question) -> list[Row]:
    """Newest first, and the dearest first of each moment: `start`, the keys asked for, `tag`, and what it comes to.

    `micros` are of runs, `instance_micros` of Instances, which run them: adding both up would count time twice.
    `cost_nanos` is None where tags are asked for. Raises `Invalid`.
    """
    _check(question)
    found = _tagged(question) if _asks_for_tags(question) else _plain(question)
    start = [found.c.start] if question.by else []
    tag = [found.c.tag] if question.group_tag else []
    keys = [*start, *(found.c[KEYS[name]] for name in question.group), *tag]
    totals = [_total(found.c[name]).label(name) for name in (*_SUMS, "cost_nanos")]
    rows = await tx.all(
        select(*keys, *totals)
        .group_by(*keys)
        .having(or_(*(_total(found.c[name]) != 0 for name in _SUMS)))
        .order_by(*(column.desc() for column in start), _total(found.c.amount_nanos).desc(), *keys)
        .limit(MOST_ROWS + 1)
    )
    if len(rows) > MOST_ROWS:
        raise Invalid(
            f"That is more than {MOST_ROWS} rows: ask for less time, for fewer keys, or for some of them only."
        )
    return list(rows)


_UNKNOWN = cast(null(), BigInteger)
_SUMS = ("runs", "micros", "instance_micros", "amount_nanos")


async def freshness(tx: Transaction, account_id: str | None) -> Freshness:
    pending = select(func.count(), func.min(UsageRecord.ended_at), func.now()).join_from(
        WalletPosting, UsageRecord, UsageRecord.id == WalletPosting.usage_record_id
    )
    if account_id is not None:
        pending = pending.where(WalletPosting.account_id == account_id)
    count, oldest, now = await tx.one(pending)
    return Freshness(oldest or now, count)


async def usernames(tx: Transaction, ids: Sequence[str]) -> dict[str, str]:
    rows = await tx.all(select(Account.id, Account.username).where(one_of(Account.id, ids)))
    return {row.id: row.username for row in rows}


async def summary(tx: Transaction, account_id: str, first: date, last: date) -> list[dict[str, Any]]:
    """One row per day, Model and Hardware, both days included, newest day first; what is not folded yet is in it."""
    own = (_DAYS.c.account_id == account_id, _DAYS.c.day.between(first, last))
    waiting = select(WalletPosting.usage_record_id).where(WalletPosting.account_id == account_id)
    record = rollups.RECORD
    chosen = (record.c.id.in_(waiting), record.c.day.between(first, last))
    # One statement: a fold in between would count a run twice, or not at all.
    days = union_all(select(_DAYS).where(*own), rollups.summed(_DAYS).where(*chosen)).subquery()
    keys = (days.c.day, days.c.model, days.c.hardware_sku)
    micros = func.coalesce(_total(days.c.micros, days.c.outcome != ""), 0)
    rows = await tx.all(
        select(
            *keys,
            _total(days.c.runs).label("runs"),
            micros.label("micros"),
            _total(days.c.amount_nanos).label("amount_nanos"),
        )
        .group_by(*keys)
        .order_by(days.c.day.desc(), days.c.model, days.c.hardware_sku)
    )
    return [row._asdict() for row in rows]


def _total(column: Any, *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    """An integer, which a sum of bigint is not by itself."""
    summed = func.sum(column)
    return cast(summed.filter(*conditions) if conditions else summed, BigInteger)


def _check(question: Question) -> None:
    """Raises `Invalid`."""
    length = question.until - question.since
    if length <= timedelta(0):
        raise Invalid("`from` must be before `to`.")
    if length > timedelta(days=_MOST_DAYS):
        raise Invalid(f"Ask for at most {_MOST_DAYS} days at once.")
    if question.by is Grain.HOUR and length > timedelta(hours=_MOST_HOURS):
        raise Invalid(f"By the hour, ask for at most {_MOST_HOURS // 24} days at once.")
    if not (_is_full_hour(question.since) and _is_full_hour(question.until)):
        raise Invalid("Usage is summed up by the hour: let `from` and `to` be days, or full hours.")
    if not _asks_for_tags(question):
        return
    if others := sorted(question.keys - _IN_TAGS):
        raise Invalid(
            f"Sums by tag know the account and the model, but not the {others[0]}: export the records instead."
        )
    if question.group_tag and question.where_tag:
        raise Invalid("Ask for one tag at a time: group by it, or filter by it. Records can be exported with all.")
    if question.by is Grain.HOUR or not (_is_day(question.since) and _is_day(question.until)):
        raise Invalid("Sums by tag are by the day: ask by day or month, from one day to another.")


def _asks_for_tags(question: Question) -> bool:
    return bool(question.group_tag or question.where_tag)


def _is_full_hour(moment: datetime) -> bool:
    return moment.minute == moment.second == moment.microsecond == 0


def _is_day(moment: datetime) -> bool:
    return _is_full_hour(moment) and moment.hour == 0


def _plain(question: Question) -> Subquery:
    needs_hours = question.by is Grain.HOUR or bool(question.keys & _ONLY_IN_HOURS)
    is_of_days = _is_day(question.since) and _is_day(question.until)
    table = _DAYS if is_of_days and not needs_hours else _HOURS
    of_instance = table.c.outcome == ""
    measured = [
        table.c.runs,
        case((of_instance, 0), else_=table.c.micros).label("micros"),
        case((of_instance, table.c.micros), else_=0).label("instance_micros"),
        table.c.amount_nanos,
        table.c.cost_nanos,
    ]
    return _chosen(question, table, measured).subquery()


def _tagged(question: Question) -> Subquery:
    """With a tag to group by, what does not carry it as well, as None: everything less what does."""
    name, value = question.where_tag or (question.group_tag, None)
    rows = _chosen(question, _TAGS, [*_of_tags(1), _TAGS.c.value.label("tag")]).where(_TAGS.c.key == name)
    if value is not None:
        return rows.where(_TAGS.c.value == value).subquery()
    nothing = cast(null(), _TAGS.c.value.type).label("tag")
    everything = [_DAYS.c.runs, *_time_of_days(), _DAYS.c.amount_nanos, _UNKNOWN.label("cost_nanos"), nothing]
    rest = _chosen(question, _TAGS, [*_of_tags(-1), nothing]).where(_TAGS.c.key == name)
    return union_all(rows, _chosen(question, _DAYS, everything), rest).subquery()


def _time_of_days() -> list[ColumnElement[int]]:
    of_instance = _DAYS.c.outcome == ""
    return [
        case((of_instance, 0), else_=_DAYS.c.micros).label("micros"),
        case((of_instance, _DAYS.c.micros), else_=0).label("instance_micros"),
    ]


def _of_tags(sign: int) -> list[ColumnElement[int]]:
    sums = [(_TAGS.c[name] * sign).label(name) for name in ("runs", "micros", "amount_nanos")]
    return [*sums[:2], literal(0).label("instance_micros"), sums[2], _UNKNOWN.label("cost_nanos")]


def _chosen(question: Question, table: FromClause, measured: Sequence[Any]) -> Select:
    """The rows of a roll-up that are asked for, with the moment each belongs to, and the keys."""
    moment = table.c.hour if table is _HOURS else table.c.day
    start = func.date_trunc(question.by or Grain.DAY, cast(moment, DateTime(timezone=True)), "UTC").label("start")
    keys = [table.c[KEYS[name]] for name in KEYS if name in question.group]
    since, until = (
        (question.since, question.until) if table is _HOURS else (question.since.date(), question.until.date())
    )
    chosen = select(start, *keys, *measured).where(moment >= since, moment < until)
    for name, value in question.where.items():
        chosen = chosen.where(table.c[KEYS[name]] == value)
    return chosen if question.account_id is None else chosen.where(table.c.account_id == question.account_id)
