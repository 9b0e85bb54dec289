"""An Account's spend limits, and what it is told about its money."""

from fastapi import APIRouter, Response

from api.dependencies import Reading, StateDep, Tx
from api.web.access import page
from api.web.billing.actions import send
from api.web.billing.forms import Field, Form, Given, Wrong, show
from api.web.billing.labels import labels
from api.web.billing.place import ACCOUNT, Here
from api.web.gate import PageRoute
from api.web.views import Page
from core.database import Transaction
from core.money import alerts, limits
from core.people import tokens

router = APIRouter(prefix="/limits", route_class=PageRoute)

_PATH = f"{ACCOUNT}/limits"
_ALERTS = 50
_SCOPES = [
    (limits.ACCOUNT, "Everything this account runs"),
    (limits.TOKEN, "One token"),
    (limits.MODEL, "One Model"),
]
_STOPS = [("yes", "Nothing new starts until the next month"), ("no", "I am only told")]


@router.get("")
@page()
async def main(view: Page, place: Here, tx: Reading) -> Response:
    account_id = view.viewer.account.id
    rows = await limits.of_account(tx, account_id)
    names = await labels(tx, "token", [row.subject for row in rows if row.scope == limits.TOKEN])
    told = await alerts.list_page(tx, account_id, _ALERTS)
    return view.render("billing/limits.html", place=place, limits=rows, names=names, alerts=told)


async def _form(tx: Transaction, account_id: str) -> Form:
    own = [(row.id, f"{row.name} ({row.prefix}…)") for row in await tokens.list_page(tx, account_id, 100)]
    return Form(
        "New spend limit",
        "For a calendar month (UTC). It counts from the first of this month.",
        f"{_PATH}/new",
        "Set limit",
        [
            Field("amount", "Limit in dollars a month", "money", is_required=True),
            Field("scope", "For", "choice", limits.ACCOUNT, choices=_SCOPES),
            Field("token", "Token", "choice", "", "Only for a limit on one token.", choices=[("", "–"), *own]),
            Field("model", "Model", "text", "", "Only for a limit on one Model: owner/name."),
            Field("stops", "Once it is reached", "choice", "yes", choices=_STOPS),
            Field("thresholds", "Tell me at (percent)", "text", "50, 80, 100"),
        ],
        [("Billing", ACCOUNT), ("Limits and alerts", _PATH)],
        back=_PATH,
    )


@router.get("/new")
@page()
async def new_form(view: Page, tx: Reading) -> Response:
    return show(view, await _form(tx, view.viewer.account.id))


@router.post("/new")
@page()
async def new(view: Page, tx: Reading, state: StateDep) -> Response:
    account_id = view.viewer.account.id

    async def do(tx: Transaction, sent: Given) -> str:
        scope = sent.choice("scope", _SCOPES)
        subject = "" if scope == limits.ACCOUNT else sent.text(scope, is_required=True)
        if scope == limits.TOKEN:
            await tokens.get(tx, account_id, subject)
        await limits.put(
            tx,
            account_id,
            scope=scope,
            subject=subject,
            limit_nanos=sent.money("amount") or 0,
            thresholds=_percentages(sent.text("thresholds")),
            stops=sent.choice("stops", _STOPS) == "yes",
        )
        return "The limit is set, and counts from the first of this month."

    return await send(view, state, await _form(tx, account_id), do)


def _percentages(text: str) -> list[int]:
    parts = [part.strip().removesuffix("%").strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and len(part) < 5 for part in parts):
        raise Wrong("thresholds", "Write percentages with commas, like 50, 80, 100.")
    return [int(part) for part in parts]


@router.post("/{limit_id}/remove")
@page()
async def remove(view: Page, tx: Tx, limit_id: str) -> Response:
    await limits.remove(tx, view.viewer.account.id, limit_id)
    return view.redirect(_PATH, "The limit is removed.")


@router.post("/alerts/{alert_id:path}/seen")
@page()
async def see(view: Page, tx: Tx, alert_id: str) -> Response:
    await alerts.see(tx, view.viewer.account.id, alert_id)
    return view.redirect(_PATH)
