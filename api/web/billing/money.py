"""Money that moved other than by usage: who was paid, given or refunded what, by whom and why."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.dependencies import Reading, StateDep
from api.web.access import page
from api.web.billing import csvs
from api.web.billing.options import options
from api.web.billing.paging import After, following
from api.web.billing.place import Here
from api.web.gate import PageRoute
from api.web.views import Page
from core.reports import movements
from core.usage.exports import amount

KINDS = {
    "top_up": "Top-up",
    "promotion": "Promotional credit",
    "adjustment": "Adjustment",
    "refund": "Refund",
    "expiry": "Expired credit",
    "waiver": "Waiver",
    "discount": "Volume discount",
}
TONES = {"top_up": "good", "promotion": "accent", "adjustment": "warn", "refund": "accent"}
Kind = Annotated[str, Query()]

router = APIRouter(route_class=PageRoute)


def _kinds(kind: str) -> tuple[str, ...]:
    return (kind,) if kind in KINDS else tuple(movements.BY_HAND)


@router.get("/money")
@page()
async def show(view: Page, place: Here, tx: Reading, after: After, kind: Kind = "") -> Response:
    rows = await movements.page(tx, place.filter, _kinds(kind), after, movements.PAGE_SIZE + 1)
    return view.render(
        "billing/money.html",
        place=place,
        kind=kind if kind in KINDS else "",
        kinds=KINDS,
        tones=TONES,
        rows=rows[: movements.PAGE_SIZE],
        sums=await movements.by_kind(tx, place.filter),
        options=await options(tx, place),
        cursor=following(rows, movements.PAGE_SIZE, "created_at"),
    )


@router.get("/money.csv")
@page()
async def download(place: Here, state: StateDep, kind: Kind = "") -> Response:
    columns: csvs.Columns = {
        "at": lambda row: row.created_at,
        "account": lambda row: row.username,
        "kind": lambda row: row.kind,
        "amount_dollars": lambda row: amount(row.amount_nanos),
        "actor": lambda row: row.actor,
        "reason": lambda row: row.reason,
        "transaction": lambda row: row.transaction_id,
        "corrects": lambda row: row.corrects,
    }
    rows = movements.stream(state.database, place.filter, _kinds(kind))
    return csvs.download(f"money-{place.range.first}-{place.range.last}", columns, rows)


@router.get("/money/{transaction_id:path}")
@page()
async def one(view: Page, place: Here, tx: Reading, transaction_id: str) -> Response:
    found = await movements.one(tx, transaction_id, place.own_id)
    return view.render("billing/movement.html", place=place, id=transaction_id, found=found, kinds=KINDS)
