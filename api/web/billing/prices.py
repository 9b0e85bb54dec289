"""The price book: what holds now and what held when, and for admins a form that opens a price."""

from collections.abc import Sequence

from fastapi import APIRouter, Response
from sqlalchemy import Row

from api.dependencies import Reading, StateDep
from api.web.access import page
from api.web.billing import csvs
from api.web.billing.actions import send
from api.web.billing.forms import Field, Form, Given, show
from api.web.billing.place import ADMIN, Here, Place
from api.web.gate import PageRoute
from api.web.views import Page
from core import catalog
from core.clock import now
from core.database import Transaction
from core.money import book, prices
from core.money.prices import COST, HARDWARE, HOUR, MODEL, SECOND
from core.people import accounts
from core.reports import balances
from core.usage.exports import amount

router = APIRouter(prefix="/prices", route_class=PageRoute)

_KINDS = [
    (HARDWARE, "A second of Hardware, for who runs on it"),
    (MODEL, "A unit that a Model makes"),
    (COST, "An hour of Hardware, for you who own it"),
]


@router.get("")
@page()
async def show_book(view: Page, place: Here, tx: Reading) -> Response:
    rows = await _rows(place, tx, view.viewer.account.id)
    names = await balances.usernames(tx, {row.account_id for row in rows if row.account_id})
    groups = [(kind, [row for row in rows if row.kind == kind]) for kind, _ in _KINDS]
    hardware = {row.sku: row.name for row in await catalog.list_hardware(tx)}
    return view.render(
        "billing/prices.html",
        place=place,
        groups=[group for group in groups if group[1]],
        names=names,
        hardware=hardware,
        now=now(),
    )


async def _rows(place: Place, tx: Transaction, account_id: str) -> Sequence[Row]:
    """All there is or was for an admin; what holds now for an Account, of what it may see."""
    return await prices.book(tx) if place.is_admin else await book.standing(tx, account_id)


@router.get("/all.csv")
@page()
async def download(view: Page, place: Here, tx: Reading) -> Response:
    rows = await _rows(place, tx, view.viewer.account.id)
    names = await balances.usernames(tx, {row.account_id for row in rows if row.account_id})
    columns: csvs.Columns = {
        "id": lambda row: row.id,
        "kind": lambda row: row.kind,
        "subject": lambda row: row.subject,
        "metric": lambda row: row.metric,
        "account": lambda row: names.get(row.account_id or ""),
        "dollars_per_unit": lambda row: None if row.nanos_per_unit is None else amount(row.nanos_per_unit),
        "free_units": lambda row: row.free_units,
        "steps": lambda row: row.steps,
        "effective_from": lambda row: row.effective_from,
        "reason": lambda row: row.reason,
    }
    return csvs.download("prices", columns, csvs.at_once(rows))


admin = APIRouter(prefix="/prices", route_class=PageRoute)


def _form() -> Form:
    return Form(
        "Set a price",
        "It holds from then on. What has started keeps its price, and every price that ever held stays in the book.",
        f"{ADMIN}/prices/new",
        "Set price",
        [
            Field("kind", "Price of", "choice", HARDWARE, choices=_KINDS),
            Field("subject", "Hardware or Model", hint="A SKU like gpu-l40s, or owner/name.", is_required=True),
            Field("metric", "Unit", hint="Only for a Model: the metric it records, like image_count."),
            Field("amount", "Dollars per unit", "money", is_required=True),
            Field("account", "Only for the account", hint="Empty: for everybody."),
            Field("free", "Free units a month", "number", hint="Empty: none."),
            Field("since", "From the day", "date", hint="Empty: from now on."),
            Field("reason", "Reason", is_required=True),
        ],
        [("Billing", ADMIN), ("Prices", f"{ADMIN}/prices")],
        back=f"{ADMIN}/prices",
    )


@admin.get("/new")
@page(admin=True)
async def form(view: Page) -> Response:
    return show(view, _form())


@admin.post("/new")
@page(admin=True)
async def put(view: Page, state: StateDep) -> Response:
    async def do(tx: Transaction, sent: Given) -> str:
        kind, account = sent.choice("kind", _KINDS), sent.text("account")
        units = {HARDWARE: SECOND, COST: HOUR}
        row = await prices.put(
            tx,
            kind=kind,
            subject=sent.text("subject", is_required=True),
            metric=units.get(kind) or sent.text("metric", is_required=True),
            nanos_per_unit=sent.money("amount"),
            account_id=(await accounts.by_username(tx, account)).id if account else None,
            free_units=sent.whole("free") or 0,
            effective_from=sent.day("since"),
            created_by=view.viewer.account.username,
            reason=sent.text("reason", is_required=True),
            id=sent.id,
        )
        return f"The price of {row.subject} is set."

    return await send(view, state, _form(), do)
