"""The first page: today, this month, three questions, and what needs somebody's attention."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.dependencies import Reading, StateDep
from api.state import State
from api.web import charts
from api.web.access import page
from api.web.billing import idle, usage
from api.web.billing.books import last_proof
from api.web.billing.labels import DIMENSIONS, labels
from api.web.billing.money import KINDS, TONES
from api.web.billing.options import options
from api.web.billing.place import Here, Place
from api.web.billing.sums import sums
from api.web.gate import PageRoute
from api.web.views import Page
from core.clock import now
from core.database import Transaction
from core.money import alerts, limits, wallets
from core.reports import balances, books, capacity, movements
from core.reports import usage as reports
from core.reports.filters import Filter

router = APIRouter(route_class=PageRoute)

_SHOWN = 6
_SWITCHES = ("model", "hardware", "account", "phase")

By = Annotated[str, Query()]


@router.get("")
@page()
async def show(view: Page, place: Here, tx: Reading, state: StateDep, by: By = "") -> Response:
    switches = [name for name in _SWITCHES if name != "account" or place.is_admin]
    by = by if by in switches else "model"
    found = await sums(state, tx, capacity.overall, place.filter)
    chart, names = await _chart(state, tx, place, by)
    shared = {
        "place": place,
        "by": by,
        "switches": [(name, DIMENSIONS[name]) for name in switches],
        "pace": await sums(state, tx, _pace, place.filter),
        "chart": chart,
        "models": await _dearest(state, tx, place, "model", names if by == "model" else None),
        "split": idle.split(place, found.phases),
        "idling": found.idle,
        "movements": await movements.page(tx, place.filter, limit=_SHOWN),
        "kinds": KINDS,
        "tones": TONES,
        "options": await options(tx, place),
    }
    if place.is_admin:
        return view.render("billing/admin.html", **shared, **await _of_admin(tx, place, state, found))
    return view.render("billing/own.html", **shared, **await _of_account(tx, view.viewer.account.id))


async def _chart(
    state: State, tx: Transaction, place: Place, by: str
) -> tuple[charts.StackedBars, list[tuple[str, int]] | None]:
    """With the sums it is made of, where it has them."""
    if by != "account" and not usage.is_hourly(place, by):
        return await usage.chart_of_days(state, tx, place, by)
    return await usage.chart(state, tx, place, by, await sums(state, tx, reports.by, place.filter, by)), None


async def _pace(tx: Transaction, filter: Filter) -> reports.Pace:
    return await reports.pace(tx, now(), filter.account)


async def _of_admin(tx: Transaction, place: Place, state: State, found: capacity.Overall) -> dict[str, Any]:
    back = await sums(state, tx, movements.by_kind, place.filter)
    return {
        "accounts": await _dearest(state, tx, place, "account"),
        "totals": await balances.totals(tx),
        "low": await balances.page(tx, only_low=True, order="spendable", limit=_SHOWN),
        "machines": found.machines,
        "quick": await books.quick(tx, now()),
        "proof": await last_proof(state),
        "steps": idle.steps(place, found.machines, back),
        "failed": found.failed,
    }


async def _of_account(tx: Transaction, account_id: str) -> dict[str, Any]:
    return {
        "wallet": await wallets.get(tx, account_id),
        "limits": await limits.of_account(tx, account_id),
        "alerts": await alerts.unseen(tx, account_id, _SHOWN),
    }


async def _dearest(
    state: State, tx: Transaction, place: Place, by: str, known: list[tuple[str, int]] | None = None
) -> list[charts.BarListRow]:
    """`known`: all names with their sums, if somebody has asked already."""
    if known is None:
        known = [(row.name, row.amount_nanos) for row in await sums(state, tx, reports.by, place.filter, by)]
    names = await labels(tx, by, [name for name, _ in known[:_SHOWN]])
    items = [
        charts.Item(names.get(name, name), nanos, usage.down(place, usage.narrowed(place, by, name, names.get(name))))
        for name, nanos in known[:_SHOWN]
    ]
    return charts.bar_list(items, whole=sum(nanos for _, nanos in known))


@router.get("/balance")
@page()
async def balance(view: Page, tx: Reading) -> Response:
    """The tile of the viewer's own alone, which asks for itself again and again."""
    path = f"{view.request.url.path}"
    wallet = await wallets.get(tx, view.viewer.account.id)
    return view.render("billing/balance.html", wallet=wallet, path=path)
