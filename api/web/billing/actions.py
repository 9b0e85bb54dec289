"""What an admin does about an Account's money: each a form with a reason, and then a line in the ledger and the log."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Response
from sqlalchemy import Row

from api.dependencies import Reading, StateDep
from api.state import State
from api.web import formats
from api.web.access import page
from api.web.billing.forms import Field, Form, Given, Wrong, given, show
from api.web.billing.place import ADMIN
from api.web.gate import PageRoute
from api.web.views import Page, View
from core.database import Transaction
from core.errors import MillraceError
from core.money import by_hand, credits, wallets
from core.money.pricing import dollars
from core.money.wallets import FINISH, STOP
from core.people import accounts
from core.reports import records

router = APIRouter(prefix="/accounts/{username}", route_class=PageRoute)
runs = APIRouter(route_class=PageRoute)

Deed = Callable[[Transaction, Given], Awaitable[str]]
_REASON = Field(
    "reason", "Reason", hint="Stands in the ledger and on the bill, so that nobody has to ask.", is_required=True
)
_KINDS = [
    (credits.PAID, "Paid: the money has come in (bank transfer, cash)"),
    (credits.PROMOTIONAL, "Promotional: given, and used before what was paid"),
]
_RULES = [(STOP, "Cancel it"), (FINISH, "Let it finish; the rest is owed")]


async def send(view: View, state: State, form: Form, do: Deed) -> Response:
    """Does it in one transaction and goes back, or shows the form again with what is wrong."""
    sent = await given(view)
    try:
        async with state.database.transaction() as tx:
            done = await do(tx, sent)
    except (Wrong, MillraceError) as error:
        return show(view, form, sent, error)
    return view.redirect(form.back, done)


def _actor(view: View) -> str:
    return view.viewer.account.username


def _form(account: Row, action: str, title: str, intro: str, submit: str, *fields: Field, **more: str) -> Form:
    path = f"{ADMIN}/accounts/{account.username}"
    crumbs = [("Billing", ADMIN), ("Accounts", f"{ADMIN}/accounts"), (account.username, path)]
    return Form(title, intro, f"{path}/{action}", submit, fields, crumbs, back=path, **more)


async def _account(tx: Transaction, username: str) -> Row:
    return await accounts.by_username(tx, username)


# --- credit ---


def _credit_form(account: Row) -> Form:
    return _form(
        account,
        "credit",
        f"Add money to {account.username}",
        "It can be spent at once; what is owed is paid with it first.",
        "Add money",
        Field("amount", "Amount in dollars", "money", is_required=True),
        Field("kind", "Kind", "choice", credits.PAID, choices=_KINDS),
        Field("expires", "Expires on", "date", hint="Leave empty for money that stays."),
        _REASON,
    )


@router.get("/credit")
@page(admin=True)
async def credit_form(view: Page, tx: Reading, username: str) -> Response:
    return show(view, _credit_form(await _account(tx, username)))


@router.post("/credit")
@page(admin=True)
async def credit(view: Page, tx: Reading, state: StateDep, username: str) -> Response:
    account = await _account(tx, username)

    async def do(tx: Transaction, sent: Given) -> str:
        row = await by_hand.give(
            tx,
            account.id,
            id=sent.id,
            kind=sent.choice("kind", _KINDS),
            amount_nanos=sent.money("amount") or 0,
            reason=sent.text("reason", is_required=True),
            actor=_actor(view),
            expires_at=sent.day("expires"),
        )
        return f"{formats.exact_money(row.amount_nanos)} added to {account.username}."

    return await send(view, state, _credit_form(account), do)


# --- adjustment ---


def _adjust_form(account: Row) -> Form:
    return _form(
        account,
        "adjust",
        f"Take money out of {account.username}",
        "To put a slip right. A charge that was wrong is refunded on its own page instead.",
        "Take money out",
        Field("amount", "Amount in dollars", "money", is_required=True),
        _REASON,
    )


@router.get("/adjust")
@page(admin=True)
async def adjust_form(view: Page, tx: Reading, username: str) -> Response:
    return show(view, _adjust_form(await _account(tx, username)))


@router.post("/adjust")
@page(admin=True)
async def adjust(view: Page, tx: Reading, state: StateDep, username: str) -> Response:
    account = await _account(tx, username)

    async def do(tx: Transaction, sent: Given) -> str:
        amount = sent.money("amount") or 0
        reason = sent.text("reason", is_required=True)
        await by_hand.take(tx, account.id, id=sent.id, amount_nanos=amount, reason=reason, actor=_actor(view))
        return f"{formats.exact_money(amount)} taken out of {account.username}."

    return await send(view, state, _adjust_form(account), do)


# --- terms ---


def _plain(nanos: int | None) -> str:
    return "" if nanos is None else dollars(nanos).rstrip("0").rstrip(".")


def _terms_form(account: Row, wallet: Row) -> Form:
    return _form(
        account,
        "terms",
        f"Terms of {account.username}",
        "How this account pays from now on. What it has spent and holds stays as it is.",
        "Change terms",
        Field(
            "limit",
            "Credit limit in dollars",
            "money",
            _plain(wallet.credit_limit_nanos),
            "0 is prepaid: nothing runs without money. Empty: without limit, paid by invoice.",
        ),
        Field("when_empty", "What runs when the money is used up", "choice", wallet.when_empty, choices=_RULES),
        Field(
            "low",
            "Tell its owner below",
            "money",
            _plain(wallet.low_balance_nanos),
            "Dollars of balance; empty: never.",
        ),
    )


@router.get("/terms")
@page(admin=True)
async def terms_form(view: Page, tx: Reading, username: str) -> Response:
    account = await _account(tx, username)
    return show(view, _terms_form(account, await wallets.get(tx, account.id)))


@router.post("/terms")
@page(admin=True)
async def terms(view: Page, tx: Reading, state: StateDep, username: str) -> Response:
    account = await _account(tx, username)

    async def do(tx: Transaction, sent: Given) -> str:
        await wallets.set_terms(
            tx,
            account.id,
            credit_limit_nanos=sent.money("limit", is_required=False),
            when_empty=sent.choice("when_empty", _RULES),
            low_balance_nanos=sent.money("low", is_required=False),
        )
        return f"The terms of {account.username} are changed."

    return await send(view, state, _terms_form(account, await wallets.get(tx, account.id)), do)


# --- refund ---


async def _refund_form(tx: Transaction, record_id: str) -> tuple[Form, records.Explanation]:
    found = await records.explain(tx, record_id)
    left = formats.exact_money(found.refundable_nanos)
    back = f"{ADMIN}/runs/{record_id}"
    form = Form(
        "Refund a charge",
        f"Of this charge, {left} can be given back. The charge itself stays on record.",
        f"{ADMIN}/refunds/{record_id}",
        "Refund",
        [
            Field(
                "amount",
                "Amount in dollars",
                "money",
                _plain(found.refundable_nanos),
                "The whole of what is left, or a part of it.",
                is_required=True,
            ),
            _REASON,
        ],
        [("Billing", ADMIN), ("Runs", f"{ADMIN}/runs"), ("Why this amount", back)],
        back=back,
        facts=[
            ("Account", found.record.account_name),
            ("Model", found.record.model),
            ("Charged", formats.exact_money(found.record.amount_nanos)),
            ("Given back already", formats.exact_money(found.record.amount_nanos - found.refundable_nanos)),
        ],
    )
    return form, found


@runs.get("/refunds/{record_id:path}")
@page(admin=True)
async def refund_form(view: Page, tx: Reading, record_id: str) -> Response:
    form, _ = await _refund_form(tx, record_id)
    return show(view, form)


@runs.post("/refunds/{record_id:path}")
@page(admin=True)
async def refund(view: Page, tx: Reading, state: StateDep, record_id: str) -> Response:
    form, found = await _refund_form(tx, record_id)

    async def do(tx: Transaction, sent: Given) -> str:
        amount = sent.money("amount")
        reason = sent.text("reason", is_required=True)
        await by_hand.refund(tx, found.record, id=sent.id, amount_nanos=amount, reason=reason, actor=_actor(view))
        return f"{formats.exact_money(amount or 0)} refunded to {found.record.account_name}."

    return await send(view, state, form, do)
