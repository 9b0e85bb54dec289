"""For admins: what Accounts have, and one of them with all that can be done about its money."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.dependencies import Reading
from api.web.access import page
from api.web.billing import csvs
from api.web.billing.money import KINDS, TONES
from api.web.billing.place import ADMIN, Here
from api.web.gate import PageRoute
from api.web.views import Page
from core.clock import now
from core.money import alerts, credits, limits, wallets
from core.people import accounts, audit_trail
from core.reports import balances, movements, usage
from core.usage.exports import amount

router = APIRouter(route_class=PageRoute)

_SHOWN = 8
Text = Annotated[str, Query()]


@router.get("/accounts")
@page(admin=True)
async def show(
    view: Page, place: Here, tx: Reading, search: Text = "", low: Text = "", order: Text = "", start: int = 0
) -> Response:
    name, descending = _order(order)
    start = max(0, start)
    rows = await balances.page(tx, search.strip(), bool(low), name, descending, start, balances.PAGE_SIZE + 1)
    return view.render(
        "billing/accounts.html",
        place=place,
        rows=rows[: balances.PAGE_SIZE],
        totals=await balances.totals(tx),
        search=search,
        low=low,
        order=(name, descending),
        previous=max(0, start - balances.PAGE_SIZE) if start else None,
        next=start + balances.PAGE_SIZE if len(rows) > balances.PAGE_SIZE else None,
    )


@router.get("/accounts.csv")
@page(admin=True)
async def download(tx: Reading, search: Text = "", low: Text = "", order: Text = "") -> Response:
    rows = await balances.page(tx, search.strip(), bool(low), *_order(order), limit=None)
    columns: csvs.Columns = {
        "account": lambda row: row.username,
        "name": lambda row: row.name,
        "balance_dollars": lambda row: amount(row.balance_nanos),
        "held_dollars": lambda row: amount(row.held_nanos),
        "ongoing_dollars": lambda row: amount(row.ongoing_nanos),
        "credit_limit_dollars": lambda row: None if row.credit_limit_nanos is None else amount(row.credit_limit_nanos),
        "spendable_dollars": lambda row: None if row.spendable_nanos is None else amount(row.spendable_nanos),
        "low": lambda row: "yes" if row.is_low else "",
    }
    return csvs.download(f"balances-{now():%Y-%m-%d}", columns, csvs.at_once(rows))


def _order(text: str) -> tuple[str, bool]:
    """`-balance` is descending."""
    name = text.removeprefix("-")
    return (name, text.startswith("-")) if name in balances.ORDERS else ("name", False)


@router.get("/accounts/{username}")
@page(admin=True)
async def one(view: Page, place: Here, tx: Reading, username: str) -> Response:
    account = await accounts.by_username(tx, username)
    filter = usage.Filter(place.range.first, place.range.last, account=account.id)
    return view.render(
        "billing/account.html",
        place=place,
        account=account,
        path=f"{ADMIN}/accounts/{username}",
        wallet=await wallets.get(tx, account.id),
        pace=await usage.pace(tx, now(), account.id),
        models=await usage.by(tx, filter, "model", _SHOWN),
        credits=[row for row in await credits.of_account(tx, account.id) if row.remaining_nanos],
        limits=await limits.of_account(tx, account.id),
        alerts=await alerts.unseen(tx, account.id, _SHOWN),
        movements=await movements.page(tx, filter, limit=_SHOWN),
        events=await audit_trail.page(tx, audit_trail.Filter(account_id=account.id), None, _SHOWN),
        kinds=KINDS,
        tones=TONES,
    )


@router.get("/accounts/{username}/balance")
@page(admin=True)
async def balance(view: Page, tx: Reading, username: str) -> Response:
    """The tile alone, which asks for itself again and again."""
    account = await accounts.by_username(tx, username)
    path = f"{ADMIN}/accounts/{username}"
    return view.render("billing/balance.html", wallet=await wallets.get(tx, account.id), path=f"{path}/balance")
