"""Idling, and margins: what machines cost while nobody used them, and what is left of what they bring in."""

from fastapi import APIRouter, Response

from api.dependencies import Reading, StateDep
from api.state import State
from api.web import charts, formats
from api.web.access import page
from api.web.billing import csvs
from api.web.billing.labels import chosen
from api.web.billing.options import options
from api.web.billing.place import Here, Place
from api.web.billing.sums import sums
from api.web.gate import PageRoute
from api.web.views import Page
from core.database import Transaction
from core.reports import balances, capacity, movements, usage
from core.usage.exports import amount
from core.usage.metering import ACTIVE, IDLE, SETUP

router = APIRouter(route_class=PageRoute)
admin = APIRouter(route_class=PageRoute)


@router.get("/idle")
@page()
async def show(view: Page, place: Here, tx: Reading, state: StateDep) -> Response:
    rows = await sums(state, tx, capacity.idling, place.filter)
    owners = await _owners(tx, rows)
    micros, listed, charged, cost = capacity.idle_cost(rows)
    return view.render(
        "billing/idle.html",
        place=place,
        rows=[(row, _changes(place, row, owners)) for row in rows],
        owners=owners,
        micros=micros,
        listed=listed,
        charged=charged,
        cost=cost,
        chart=await _chart(state, tx, place),
        chosen=await chosen(tx, place),
        options=await options(tx, place),
    )


async def _owners(tx: Transaction, rows: list[capacity.Idling]) -> dict[str, str]:
    return await balances.usernames(tx, {row.account_id for row in rows})


def _changes(place: Place, row: capacity.Idling, owners: dict[str, str]) -> dict[str, str | None]:
    """What leaves only this row, for links to what is behind it."""
    changes: dict[str, str | None] = {"model": row.model, "hardware": row.hardware, "phase": IDLE}
    changes["deployment"] = row.deployment or "-"
    if place.is_admin:
        changes["account"] = owners.get(row.account_id)
    return changes


def split(place: Place, phases: dict[str, int]) -> list[charts.BarListRow]:
    """The time of Instances by phase."""
    names = ((ACTIVE, "Active"), (IDLE, "Idle"), (SETUP, "Setup"))
    items = [charts.Item(label, phases[name], place.to("runs", phase=name, outcome="-")) for name, label in names]
    return charts.bar_list(items, charts.DURATION) if any(phases.values()) else []


async def _chart(state: State, tx: Transaction, place: Place) -> charts.StackedBars:
    """The time of Instances by day."""
    filter = {name: getattr(place.filter, name) for name in place.filter.__slots__}
    of_instances = usage.Filter(**{**filter, "outcome": "", "phase": None})
    names = (ACTIVE, IDLE, SETUP)
    found = await sums(state, tx, usage.over_time, of_instances, "phase", names)
    values = {(row.moment, row.name): row.micros for row in found}
    days = place.range.days
    series = [
        charts.Series(
            label,
            [values.get((day, name), 0) for day in days],
            [place.to("runs", phase=name, outcome="-", **place.on(day)) for day in days],
        )
        for name, label in ((ACTIVE, "Active"), (IDLE, "Idle"), (SETUP, "Setup"))
    ]
    columns = [charts.Column(f"{d.day} {d:%b}", f"{d.day} {d:%b %Y}", place.to("idle", **place.on(d))) for d in days]
    return charts.stacked_bars("Time of instances", columns, series, charts.DURATION)


@router.get("/idle.csv")
@page()
async def download(place: Here, tx: Reading) -> Response:
    rows = await capacity.idling(tx, place.filter, limit=None)
    owners = await _owners(tx, rows)
    columns: csvs.Columns = {
        "account": lambda row: owners.get(row.account_id),
        "model": lambda row: row.model,
        "deployment": lambda row: row.deployment,
        "hardware": lambda row: row.hardware,
        "idle_seconds": lambda row: f"{row.idle_micros / 1e6:.6f}",
        "instance_seconds": lambda row: f"{row.instance_micros / 1e6:.6f}",
        "charged_dollars": lambda row: amount(row.charged_nanos),
        "list_price_dollars": lambda row: amount(row.list_nanos),
    }
    if place.is_admin:
        columns["cost_dollars"] = lambda row: amount(row.cost_nanos)
    return csvs.download(f"idle-{place.range.first}-{place.range.last}", columns, csvs.at_once(rows))


@admin.get("/margin")
@page(admin=True)
async def margin(view: Page, place: Here, tx: Reading, state: StateDep) -> Response:
    days = _all_of_the_days(place)
    found = await sums(state, tx, capacity.overall, days)
    back = await sums(state, tx, movements.by_kind, days)
    return view.render(
        "billing/margin.html",
        place=place,
        machines=found.machines,
        steps=steps(place, found.machines, back),
        failed=found.failed,
    )


def _all_of_the_days(place: Place) -> usage.Filter:
    """A machine's cost is nobody's in particular, so a margin is that of all together."""
    return usage.Filter(place.range.first, place.range.last)


def steps(
    place: Place, machines: list[capacity.Machines], back: dict[str, tuple[int, int]]
) -> list[tuple[str, int, str, str]]:
    """From what was charged down to the margin: (label, nanodollars, where its rows are, kind of line)."""
    charged = sum(each.amount_nanos for each in machines)
    given = [
        ("Waived beyond holds", "waiver"),
        ("Volume discounts and free units", "discount"),
        ("Refunds", "refund"),
    ]
    lines = [("Charged for usage", charged, place.to("usage"), "")]
    lines += [(label, -back.get(kind, (0, 0))[1], place.to("money", kind=kind), "") for label, kind in given]
    net = sum(line[1] for line in lines)
    cost = sum(each.available_cost_nanos for each in machines)
    return [
        *lines,
        ("Net revenue", net, "", "sum"),
        ("Cost of machines", -cost, place.to("margin") + "#machines", ""),
        ("Margin", net - cost, "", "sum"),
    ]


@admin.get("/margin.csv")
@page(admin=True)
async def download_margin(place: Here, tx: Reading) -> Response:
    columns: csvs.Columns = {
        "hardware": lambda row: row.sku,
        "name": lambda row: row.rates.name,
        "available_seconds": lambda row: f"{row.available_micros / 1e6:.6f}",
        "setup_seconds": lambda row: f"{row.setup_micros / 1e6:.6f}",
        "idle_seconds": lambda row: f"{row.idle_micros / 1e6:.6f}",
        "active_seconds": lambda row: f"{row.active_micros / 1e6:.6f}",
        "run_seconds": lambda row: f"{row.run_micros / 1e6:.6f}",
        "charged_dollars": lambda row: amount(row.amount_nanos),
        "cost_dollars": lambda row: amount(row.available_cost_nanos),
        "margin_dollars": lambda row: amount(row.margin_nanos),
        "margin": lambda row: formats.percent(row.margin_nanos, row.amount_nanos),
    }
    rows = (await capacity.overall(tx, _all_of_the_days(place))).machines
    return csvs.download(f"margin-{place.range.first}-{place.range.last}", columns, csvs.at_once(rows))
