"""Spending: a chart over time and a table, told apart by one thing at a time; each row leads one step further down."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy import Row

from api.dependencies import Reading, StateDep
from api.state import State
from api.web import charts
from api.web.access import page
from api.web.billing import csvs
from api.web.billing.labels import DIMENSIONS, chosen, in_url, labels
from api.web.billing.options import options
from api.web.billing.place import Here, Place
from api.web.billing.sums import sums
from api.web.gate import PageRoute
from api.web.views import Page
from core.database import Transaction
from core.reports import usage
from core.reports.usage import DAY, TAG
from core.usage.exports import amount

#: The way down, and then the runs themselves.
_DOWN = ("account", "model", DAY)
_SHADED = charts.MOST_SERIES - 1
#: Of so few days each hour has its bar.
_HOURLY_DAYS = 2

router = APIRouter(route_class=PageRoute)


@router.get("/usage")
@page()
async def show(view: Page, place: Here, tx: Reading, state: StateDep, by: Annotated[str, Query()] = "") -> Response:
    by = dimension(place, by)
    rows = await sums(state, tx, usage.by, place.filter, by)
    table = await table_of(tx, place, by, rows)
    return view.render(
        "billing/usage.html",
        place=place,
        by=by,
        dimensions=[(name, DIMENSIONS[name]) for name in offered(place)],
        dimension_label=DIMENSIONS[by],
        chosen=await chosen(tx, place),
        options=await options(tx, place),
        table=table,
        total=await _total(tx, place, by, rows),
        before=await sums(state, tx, usage.totals, _before(place)),
        is_cut=len(rows) == usage.MOST_ROWS,
        chart=await chart(state, tx, place, by, rows),
    )


@router.get("/usage.csv")
@page()
async def download(place: Here, tx: Reading, by: Annotated[str, Query()] = "") -> Response:
    by = dimension(place, by)
    rows = await usage.by(tx, place.filter, by, limit=None)
    names = await labels(tx, by, [row.name for row in rows if isinstance(row.name, str)])
    columns: csvs.Columns = {
        by: lambda row: row.name,
        "name": lambda row: names.get(row.name, row.name),
        "runs": lambda row: row.runs,
        "run_seconds": lambda row: _seconds(row.run_micros),
        "instance_seconds": lambda row: _seconds(row.instance_micros),
        "amount_dollars": lambda row: amount(row.amount_nanos),
    }
    if place.is_admin:
        columns["cost_dollars"] = lambda row: amount(row.cost_nanos)
    return csvs.download(f"usage-by-{by}-{place.range.first}-{place.range.last}", columns, csvs.at_once(rows))


def _seconds(micros: int) -> str:
    return f"{micros // 1_000_000}.{micros % 1_000_000:06d}"


async def _total(tx: Transaction, place: Place, by: str, rows: Sequence[Row]) -> Any:
    """Of all rows there are; asked for where these are not all, or a run is in several."""
    if by == TAG or len(rows) == usage.MOST_ROWS:
        return await usage.totals(tx, place.filter)
    return SimpleNamespace(**{name: sum(getattr(row, name) for row in rows) for name in usage.SUMS})


def _before(place: Place) -> usage.Filter:
    """The same of the days just before, to compare with."""
    before = place.range.before
    values = {name: getattr(place.filter, name) for name in place.filter.__slots__}
    return usage.Filter(**{**values, "first": before.first, "last": before.last})


def offered(place: Place) -> list[str]:
    """What can be told apart here."""
    names = DIMENSIONS if place.filter.tag is None else ("account", "model", DAY)
    # Tokens are told apart hour by hour: of all Accounts that would be millions of rows.
    hidden = {"account": not place.is_admin, "token": place.account is None}
    return [name for name in names if not hidden.get(name)]


def dimension(place: Place, asked: str) -> str:
    """What is asked for, if it makes sense; else the next step down."""
    return asked if asked in offered(place) else _next(place, place.query) or "hardware"


def _next(place: Place, query: dict[str, Any]) -> str:
    """The next step down from what is chosen; empty: now come the runs."""
    is_one_day = query.get("since") == query.get("until") if "since" in query else place.range.first == place.range.last
    done = {*query, *([DAY] if is_one_day else []), *([] if place.is_admin else ["account"])}
    return next((name for name in _DOWN if name not in done), "")


async def table_of(tx: Transaction, place: Place, by: str, rows: Any) -> list[dict[str, Any]]:
    """Each row with its label, the way down, and the way to its runs."""
    names = await labels(tx, by, [row.name for row in rows if isinstance(row.name, str)])
    return [_row(place, by, row, names.get(row.name)) for row in rows]


def _row(place: Place, by: str, row: Row, label: str | None) -> dict[str, Any]:
    changes = narrowed(place, by, row.name, label)
    return {"row": row, "label": label or row.name, "down": down(place, changes), "runs": place.to("runs", **changes)}


def narrowed(place: Place, by: str, value: Any, label: str | None = None) -> dict[str, Any]:
    """Changes of the query that leave only this."""
    if by == DAY:
        return place.on(value)
    return {by: value if by == TAG else in_url(by, value, label or value)}


def down(place: Place, changes: dict[str, Any]) -> str:
    query = {**place.query, **changes}
    step = _next(place, query)
    return place.to("usage", **changes, by=step) if step else place.to("runs", **changes)


def is_hourly(place: Place, by: str) -> bool:
    return len(place.range.days) <= _HOURLY_DAYS and place.filter.tag is None and by not in (TAG, DAY)


async def chart(state: State, tx: Transaction, place: Place, by: str, rows: Any) -> charts.StackedBars:
    """The dearest in colours of their own, the rest as one."""
    shown = [row.name for row in rows][:_SHADED] if by != DAY else []
    dim = by if by != DAY else ("model" if place.filter.tag else "phase")
    found = await sums(state, tx, usage.over_time, place.filter, dim, tuple(shown), is_hourly(place, by))
    values = {(row.moment, row.name): row.amount_nanos for row in found}
    return await draw(tx, place, by, shown, max(0, len(rows) - len(shown)), values)


async def chart_of_days(
    state: State, tx: Transaction, place: Place, by: str
) -> tuple[charts.StackedBars, list[tuple[str, int]]]:
    """The same from one look, for what has few names; with all of them and their sums, the dearest first."""
    found = await sums(state, tx, usage.daily, place.filter, by)
    by_name: Counter[str] = Counter()
    for row in found:
        by_name[row.name] += row.amount_nanos
    names = sorted(by_name.items(), key=lambda item: (-item[1], item[0]))
    shown = [name for name, _ in names[:_SHADED]]
    values: Counter[tuple[date, str | None]] = Counter()
    for row in found:
        values[row.moment, row.name if row.name in shown else None] += row.amount_nanos
    return await draw(tx, place, by, shown, len(names) - len(shown), values), names


async def draw(
    tx: Transaction, place: Place, by: str, shown: Sequence[str], rest: int, values: Mapping[Any, int]
) -> charts.StackedBars:
    """`values` by (moment, name); by (moment, None) of the rest, which are so many."""
    moments = hours(place) if is_hourly(place, by) else place.range.days
    names = await labels(tx, by, shown)
    series = [_series(place, by, name, names.get(name), moments, values) for name in shown]
    if any(amount for (_, name), amount in values.items() if name is None):
        name = "All" if by == DAY else f"Other ({rest})"
        series.append(charts.Series(name, [values.get((moment, None), 0) for moment in moments]))
    return charts.stacked_bars(_title(by), [_column(place, by, moment) for moment in moments], series)


def _title(by: str) -> str:
    return "Charged" if by == DAY else f"Charged by {DIMENSIONS[by].lower()}"


def _series(place: Place, by: str, name: str, label: str | None, moments: Any, values: Any) -> charts.Series:
    changes = narrowed(place, by, name, label)
    hrefs = [down(place, {**changes, **place.on(_day(moment))}) for moment in moments]
    amounts = [values.get((moment, name), 0) for moment in moments]
    return charts.Series(label or name, amounts, hrefs, down(place, changes))


def _day(moment: date | datetime) -> date:
    return moment.date() if isinstance(moment, datetime) else moment


def _column(place: Place, by: str, moment: date | datetime) -> charts.Column:
    if isinstance(moment, datetime):
        name = f"{moment:%H:%M}"
        return charts.Column(name, f"{moment.day} {moment:%b}, {name} UTC", None)
    href = place.to("usage", **place.on(moment), by=None if by == DAY else by)
    return charts.Column(f"{moment.day} {moment:%b}", f"{moment.day} {moment:%b %Y}", href)


def hours(place: Place) -> list[datetime]:
    count = 24 * len(place.range.days)
    return [place.filter.since + timedelta(hours=number) for number in range(count)]
