"""The first page: today, this month, three questions, and what needs somebody's attention."""

from typing import Annotated

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
from api.web.gate import PageRoute
from api.web.views import Page
from core import alerts, limits, wallets
from core.clock import now
from core.database import Transaction
from core.reports import balances, books, capacity, movements
from core.reports import usage as sums

router = APIRouter(route_class=PageRoute)

_SHOWN = 6
_SWITCHES = ("model", "hardware", "account", "phase")

By = Annotated[str, Query()]


@router.get("")
@page()
async def show(view: Page, place: Here, tx: Reading, state: StateDep, by: By = "") -> Response:
    switches = [name for name in _SWITCHES if name != "account" or place.is_admin]
    by = by if by in switches else "model"
    rows = await sums.by(tx, place.filter, by)
    shared = {
        "place": place,
        "by": by,
        "switches": [(name, DIMENSIONS[name]) for name in switches],
        "pace": await sums.pace(tx, now(), place.filter.account),
        "chart": await usage.chart(tx, place, by, rows),
        "models": await _dearest(tx, place, "model"),
        "split": await idle.split(tx, place),
        "idling": capacity.idle_cost(await capacity.idling(tx, place.filter, None)),
        "movements": await movements.page(tx, place.filter, limit=_SHOWN),
        "kinds": KINDS,
        "tones": TONES,
        "options": await options(tx, place),
    }
    if place.is_admin:
        return view.render("billing/admin.html", **shared, **await _of_admin(tx, place, state))
    return view.render("billing/own.html", **shared, **await _of_account(tx, view.viewer.account.id))


async def _of_admin(tx: Transaction, place: Place, state: State) -> dict:
    machines = await capacity.machines(tx, place.filter)
    back = await movements.by_kind(tx, place.filter)
    return {
        "accounts": await _dearest(tx, place, "account"),
        "totals": await balances.totals(tx),
        "low": await balances.page(tx, only_low=True, order="spendable", limit=_SHOWN),
        "machines": machines,
        "quick": await books.quick(tx, now()),
        "proof": await last_proof(state),
        "steps": idle.steps(place, machines, back),
        "failed": await idle.failed(tx, place.filter),
    }


async def _of_account(tx: Transaction, account_id: str) -> dict:
    return {
        "wallet": await wallets.get(tx, account_id),
        "limits": await limits.of_account(tx, account_id),
        "alerts": await alerts.unseen(tx, account_id, _SHOWN),
    }


async def _dearest(tx: Transaction, place: Place, by: str) -> list[charts.BarListRow]:
    rows = await sums.by(tx, place.filter, by, _SHOWN)
    names = await labels(tx, by, [row.name for row in rows])
    whole = (await sums.totals(tx, place.filter)).amount_nanos
    items = [
        charts.Item(
            names.get(row.name, row.name),
            row.amount_nanos,
            usage.down(place, usage.narrowed(place, by, row.name, names.get(row.name))),
        )
        for row in rows
    ]
    return charts.bar_list(items, whole=whole)


@router.get("/balance")
@page()
async def balance(view: Page, tx: Reading) -> Response:
    """The tile of the viewer's own alone, which asks for itself again and again."""
    path = f"{view.request.url.path}"
    wallet = await wallets.get(tx, view.viewer.account.id)
    return view.render("billing/balance.html", wallet=wallet, path=path)
