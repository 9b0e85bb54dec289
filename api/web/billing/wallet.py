"""An Account's own money: what it has and from where, topping up by card, and recharging by itself."""

from fastapi import APIRouter, Response

from api.dependencies import Reading, StateDep, Tx
from api.state import State
from api.web.access import page
from api.web.billing.actions import send
from api.web.billing.forms import Field, Form, Given, Wrong, given, show
from api.web.billing.place import ACCOUNT, Here
from api.web.gate import PageRoute
from api.web.views import Page
from core.database import Transaction
from core.errors import Conflict, MillraceError
from core.money import credits, wallets
from core.money.pricing import dollars
from core.payments import paying, payment_methods, payments
from core.payments.payments import PaymentProvider

router = APIRouter(prefix="/wallet", route_class=PageRoute)

_PATH = f"{ACCOUNT}/wallet"
#: Where the form for topping up may lead.
_PAYMENT_PAGES = ("https://checkout.stripe.com",)
_SHOWN = 20
_CRUMBS = [("Billing", ACCOUNT), ("Money", _PATH)]
_OFF = "This server takes no card payments. Ask its administrator to add money to your account."


def _provider(state: State) -> PaymentProvider:
    if state.payments is None:
        raise Conflict(_OFF)
    return state.payments


@router.get("")
@page()
async def main(view: Page, place: Here, tx: Reading, state: StateDep) -> Response:
    account_id = view.viewer.account.id
    return view.render(
        "billing/wallet.html",
        place=place,
        wallet=await wallets.get(tx, account_id),
        credits=await credits.of_account(tx, account_id),
        top_ups=await payments.list_page(tx, account_id, None, _SHOWN),
        method=await payment_methods.get(tx, account_id),
        takes_cards=state.payments is not None,
    )


# --- by card ---

_TOP_UP = Form(
    "Top up by card",
    "You pay on the page of the payment provider, which also keeps the card; its number never comes here.",
    f"{_PATH}/top-up",
    "Go to payment",
    [Field("amount", "Amount in dollars", "money", "50", "5 to 10,000 dollars, in whole cents.", is_required=True)],
    _CRUMBS,
    back=_PATH,
)


@router.get("/top-up")
@page()
async def top_up_form(view: Page, state: StateDep) -> Response:
    _provider(state)
    return show(view, _TOP_UP, form_targets=_PAYMENT_PAGES)


@router.post("/top-up")
@page()
async def top_up(view: Page, state: StateDep) -> Response:
    provider, sent = _provider(state), await given(view)
    account, back = view.viewer.account, f"{state.settings.url}{_PATH}"
    try:
        amount = sent.money("amount") or 0
        # No transaction is open meanwhile: the provider is asked.
        _, url = await paying.checkout(state.database, provider, account, sent.id, amount, back, back)
    except (Wrong, MillraceError) as error:
        return show(view, _TOP_UP, sent, error, form_targets=_PAYMENT_PAGES)
    return view.redirect(url)


@router.post("/card/forget")
@page()
async def forget(view: Page, state: StateDep) -> Response:
    await paying.forget(state.database, _provider(state), view.viewer.account.id)
    return view.redirect(_PATH, "The card is forgotten, and nothing recharges by itself any more.")


# --- by itself ---


def _recharge_form(below: int | None, to: int | None) -> Form:
    def shown(nanos: int | None, otherwise: str) -> str:
        return otherwise if nanos is None else dollars(nanos).rstrip("0").rstrip(".")

    return Form(
        "Recharge by itself",
        "Your saved card is charged whenever little is left. After a decline it pauses for an hour.",
        f"{_PATH}/recharge",
        "Save",
        [
            Field("below", "When less than this is left", "money", shown(below, "10"), "Dollars.", is_required=True),
            Field("to", "Recharge to", "money", shown(to, "50"), "Dollars.", is_required=True),
        ],
        _CRUMBS,
        back=_PATH,
    )


@router.get("/recharge")
@page()
async def recharge_form(view: Page, tx: Reading) -> Response:
    method = await payment_methods.get(tx, view.viewer.account.id)
    return show(view, _recharge_form(*((method.recharge_below_nanos, method.recharge_to_nanos) if method else (0, 0))))


@router.post("/recharge")
@page()
async def recharge(view: Page, state: StateDep) -> Response:
    async def do(tx: Transaction, sent: Given) -> str:
        below, to = sent.money("below") or 0, sent.money("to") or 0
        await payment_methods.set_recharge(tx, view.viewer.account.id, below, to)
        return "Your account recharges by itself from now on."

    return await send(view, state, _recharge_form(None, None), do)


@router.post("/recharge/stop")
@page()
async def stop_recharge(view: Page, tx: Tx) -> Response:
    await payment_methods.stop_recharge(tx, view.viewer.account.id)
    return view.redirect(_PATH, "Nothing is charged any more unless you pay.")
