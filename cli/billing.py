"""`millrace billing`: money moved by hand, terms and prices, past the api. Amounts are dollars, like 12.50."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from sqlalchemy import Row

from cli import showing
from cli.errors import Refusal
from cli.moments import moment
from cli.operating import account_named, answering, operate
from core.database import Transaction
from core.ids import new_id
from core.money import by_hand, credits, prices, refunds, wallets
from core.money.pricing import dollars, nanos
from core.people import audit
from core.usage import usage

#: Where a price or a limit ends, or something stays as it is.
_NONE, _AS_IT_IS = "none", ""


async def balance(tx: Transaction, username: str) -> Table:
    account = await account_named(tx, username)
    return _wallet(await wallets.get(tx, account.id))


async def top_up(tx: Transaction, username: str, amount: str, reason: str, expires: str, priority: str) -> str:
    return await _give(tx, credits.PAID, username, amount, reason, expires, priority)


async def promote(tx: Transaction, username: str, amount: str, reason: str, expires: str, priority: str) -> str:
    return await _give(tx, credits.PROMOTIONAL, username, amount, reason, expires, priority)


async def _give(
    tx: Transaction, kind: str, username: str, amount: str, reason: str, expires: str, priority: str
) -> str:
    account = await account_named(tx, username)
    row = await by_hand.give(
        tx,
        account.id,
        id=new_id(),
        kind=kind,
        amount_nanos=_amount(amount),
        reason=reason,
        actor=audit.operator().name,
        priority=int(priority) if priority else None,
        expires_at=moment(expires),
    )
    return f"Credit {row.id} of {dollars(row.amount_nanos)} dollars is in the wallet. {await _left(tx, account)}"


async def adjust(tx: Transaction, username: str, amount: str, reason: str, may_owe: str) -> str:
    account = await account_named(tx, username)
    money = {"amount_nanos": _amount(amount), "reason": reason, "actor": audit.operator().name}
    await by_hand.take(tx, account.id, id=new_id(), may_owe=bool(may_owe), **money)
    return f"{dollars(_amount(amount))} dollars are taken out. {await _left(tx, account)}"


async def refund(tx: Transaction, prediction_id: str, amount: str, reason: str) -> str:
    charge = await refunds.usage_of(tx, prediction_id)
    asked = _amount(amount) if amount else None
    money = {"amount_nanos": asked, "reason": reason, "actor": audit.operator().name}
    row = await by_hand.refund(tx, charge, id=f"refund:{new_id()}", **money)
    charged = dollars(charge.amount_nanos)
    return f"{charge.account_name} has {dollars(row.amount_nanos)} of {charged} dollars back."


async def terms(tx: Transaction, username: str, limit: str, when_empty: str, low_balance: str) -> Table:
    """What is not said stays as it is."""
    account = await account_named(tx, username)
    before = await wallets.get(tx, account.id)
    await wallets.set_terms(
        tx,
        account.id,
        credit_limit_nanos=_amount_or_none(limit, before.credit_limit_nanos),
        when_empty=when_empty or before.when_empty,
        low_balance_nanos=_amount_or_none(low_balance, before.low_balance_nanos),
    )
    return _wallet(await wallets.get(tx, account.id))


async def list_prices(tx: Transaction, subject: str) -> Table:
    whole = map(showing.whole, ("kind", "subject", "per", "dollars", "account", "from"))
    table = showing.table(*whole, "terms", "reason")
    rows = await prices.book(tx, subject=subject or None)
    names = await usage.usernames(tx, [row.account_id for row in rows if row.account_id])
    for row in rows:
        price = _NONE if row.nanos_per_unit is None else dollars(row.nanos_per_unit)
        account = names[row.account_id] if row.account_id else "everybody"
        begins = f"{row.effective_from:%Y-%m-%d %H:%M} UTC"
        table.add_row(row.kind, row.subject, row.metric, price, account, begins, _volume(row), Text(row.reason or ""))
    return table


async def price(
    tx: Transaction,
    subject: str,
    amount: str,
    metric: str,
    username: str,
    free: str,
    begins: str,
    reason: str,
    *steps: str,
) -> str:
    """Of a Model, `owner/name`, by the unit it counts, or of a Hardware by the second."""
    is_model = "/" in subject
    account_id = (await account_named(tx, username)).id if username else None
    row = await prices.put(
        tx,
        kind=prices.MODEL if is_model else prices.HARDWARE,
        subject=subject,
        metric=metric or prices.SECOND,
        nanos_per_unit=_amount_or_none(amount, None),
        account_id=account_id,
        free_units=int(free),
        steps=[_step(step) for step in steps],
        effective_from=moment(begins),
        created_by=audit.operator().name,
        reason=reason or None,
    )
    return _set(row)


async def cost(tx: Transaction, sku: str, amount: str, begins: str, reason: str) -> str:
    row = await prices.put(
        tx,
        kind=prices.COST,
        subject=sku,
        metric=prices.HOUR,
        nanos_per_unit=_amount_or_none(amount, None),
        effective_from=moment(begins),
        created_by=audit.operator().name,
        reason=reason or None,
    )
    return _set(row)


_VERBS: dict[str, Callable[..., Awaitable[RenderableType]]] = {
    "balance": balance,
    "top-up": top_up,
    "promote": promote,
    "adjust": adjust,
    "refund": refund,
    "terms": terms,
    "prices": list_prices,
    "price": price,
    "cost": cost,
}


def _amount(text: str) -> int:
    """Raises `Refusal`."""
    try:
        amount = nanos(text)
    except ValueError as error:
        raise Refusal(str(error)) from None
    if not 0 <= amount <= credits.MOST_NANOS:
        raise Refusal(f"An amount is between 0 and {dollars(credits.MOST_NANOS)} dollars.")
    return amount


def _amount_or_none(text: str, before: int | None) -> int | None:
    return before if text == _AS_IT_IS else None if text == _NONE else _amount(text)


def _step(text: str) -> dict[str, int]:
    """`1000:0.5`: half a dollar beyond a thousand. Raises `Refusal`."""
    above, colon, amount = text.partition(":")
    if not (colon and above.isascii() and above.isdigit()):
        raise Refusal(f"{text!r} is no step: write it like 1000:0.5, so much beyond so many units in a month.")
    return {"above": int(above), "nanos_per_unit": _amount(amount)}


async def _left(tx: Transaction, account: Row) -> str:
    wallet = await wallets.get(tx, account.id)
    return f"{account.username} has {dollars(int(wallet.balance_nanos))} dollars."


def _wallet(wallet: Row) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    facts: dict[str, Any] = {
        "balance": wallet.balance_nanos,
        "held": wallet.held_nanos,
        "spendable": wallet.spendable_nanos,
        "credit limit": wallet.credit_limit_nanos,
        "told below": wallet.low_balance_nanos,
    }
    absent = {"told below": "never"}
    for name, value in facts.items():
        table.add_row(name, absent.get(name, "without limit") if value is None else dollars(int(value)))
    table.add_row("when empty", "runs are canceled" if wallet.when_empty == "stop" else "runs may end, and are owed")
    return table


def _volume(row: Row) -> str:
    free = [f"{row.free_units} free"] if row.free_units else []
    return ", ".join([*free, *(f"{dollars(step['nanos_per_unit'])} above {step['above']}" for step in row.steps)])


def _set(row: Row) -> str:
    whose = "for one account" if row.account_id else "for everybody"
    if row.nanos_per_unit is None:
        return f"{row.subject} has no price of its own {whose} from {row.effective_from:%Y-%m-%d %H:%M} UTC on."
    amount = f"{dollars(row.nanos_per_unit)} dollars per {row.metric}"
    return f"{row.subject}: {amount} {whose}, from {row.effective_from:%Y-%m-%d %H:%M} UTC on."


def main() -> int:
    verb, *arguments = sys.argv[1:]
    return operate(answering(_VERBS[verb], *arguments))


if __name__ == "__main__":
    sys.exit(main())
