"""Top-ups: money on its way into a wallet through a payment provider, and the small protocol that a provider speaks.

    pending     asked for; the provider has not said how it ended      start
    succeeded   paid, and the credit of the same id is in the wallet   record
    failed      the provider could not take it, or took another sum    record, give_up
    expired     nobody paid in time                                    record, give_up

`succeeded` is final. The others are not: what was paid after all is credited, whatever was thought before. So what a
provider says may come twice, late and in any order. Makes no call: `paying` does, between transactions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sqlalchemy import Row, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction, seconds_from_now
from core.errors import Conflict, Invalid, NotFound
from core.log import get_logger
from core.money import alerts, credits
from core.money.pricing import NANOS_PER_DOLLAR
from core.payments import payment_methods
from core.payments.payment_methods import Method
from core.people import audit
from core.tables import Account, LedgerEntry, PaymentEvent, TopUp

log = get_logger()

CURRENCY = "usd"
NANOS_PER_CENT = NANOS_PER_DOLLAR // 100
LEAST_NANOS, MOST_NANOS = 5 * NANOS_PER_DOLLAR, 10_000 * NANOS_PER_DOLLAR
#: Pages to pay on. Each is asked after at the provider until it has ended.
MOST_OPEN = 20

TABLE = TopUp.__table__


class TopUpKind(StrEnum):
    CHECKOUT = "checkout"
    RECHARGE = "recharge"


class TopUpStatus(StrEnum):
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"


# --- what a provider says ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """Where its owner pays, and what the provider calls that."""

    reference: str
    url: str


@dataclass(frozen=True, slots=True)
class Reversal:
    """Money of a payment that went back to the payer, by refund or dispute; less than 0: it came to us again."""

    id: str
    cents: int
    reason: str


@dataclass(frozen=True, slots=True)
class Payment:
    """What has become of a top-up so far, as the provider knows it."""

    top_up_id: str
    reference: str | None
    status: TopUpStatus
    cents: int = 0
    """What was taken in fact."""
    currency: str = CURRENCY
    failure: str | None = None
    method: Method | None = None
    reversals: Sequence[Reversal] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """An event, verified. It says where to look (`reference`; None: at nothing of ours), and is believed no further."""

    id: str
    type: str
    reference: str | None


class PaymentProvider(Protocol):
    """What `paying` asks of one. Every call may raise `Unavailable`: then nobody knows what it did, and the
    same call again does it once."""

    name: str

    async def customer(self, account_id: str, username: str) -> str:
        """What it calls this Account from now on."""

    async def checkout(self, top_up: Row, customer: str, success_url: str, cancel_url: str) -> Page:
        """A page on which the owner pays, and by that saves how."""

    async def charge(self, top_up: Row, customer: str, method: str) -> Payment | None:
        """Takes the money by the saved method. None: it was asked for in another way before, and is not found."""

    async def payment(self, reference: str) -> Payment | None:
        """What has become of it. None: it is none of ours, or not known there."""

    async def find(self, top_up: Row, customer: str) -> Payment | None:
        """The same, for one whose reference never reached us."""

    async def forget(self, method: str) -> None:
        """Lets go of a saved method; of one that is gone already, too."""

    def read(self, body: bytes, signature: str | None) -> Told:
        """An event as it came in. Raises `BadRequest` where the provider did not sign it, just now."""

    async def close(self) -> None:
        """Lets go of its connections."""


# --- asking -----------------------------------------------------------------------------------------------------------


async def start(
    tx: Transaction, id: str, account_id: str, kind: TopUpKind, amount_nanos: int, provider: str, actor: str
) -> Row:
    """A pending top-up; the same `id` again is the same one. Raises `Invalid`, `Conflict`."""
    if not LEAST_NANOS <= amount_nanos <= MOST_NANOS or amount_nanos % NANOS_PER_CENT:
        least, most = LEAST_NANOS // NANOS_PER_DOLLAR, MOST_NANOS // NANOS_PER_DOLLAR
        raise Invalid(f"A top-up is {least} to {most} dollars, in whole cents.")
    values = {"kind": kind.value, "amount_nanos": amount_nanos, "provider": provider, "actor": actor}
    starting = upsert(TABLE).values(id=id, account_id=account_id, status=TopUpStatus.PENDING.value, **values)
    row = await tx.first(starting.on_conflict_do_nothing(index_elements=["id"]).returning(TABLE))
    if row is None:
        return await get(tx, account_id, id)
    if kind is TopUpKind.CHECKOUT and await _open_count(tx, account_id) > MOST_OPEN:
        raise Conflict(f"{MOST_OPEN} top-ups of this account are open already: pay one, or wait until they expire.")
    after = {"amount_nanos": amount_nanos, "kind": kind.value}
    await audit.record(tx, "top_up.start", f"top_up:{id}", account_id=account_id, after=after)
    return row


async def _open_count(tx: Transaction, account_id: str) -> int:
    own = (TABLE.c.account_id == account_id, TABLE.c.kind == TopUpKind.CHECKOUT)
    return await tx.scalar(select(func.count()).where(*own, TABLE.c.status == TopUpStatus.PENDING.value))


async def refer(tx: Transaction, id: str, reference: str | None) -> None:
    """Keeps what the provider calls it, if nothing better is known."""
    unknown = (TABLE.c.id == id, TABLE.c.reference.is_(None))
    await tx.execute(update(TABLE).where(*unknown).values(reference=reference))


async def give_up(tx: Transaction, id: str, status: TopUpStatus, failure: str) -> None:
    """Waits for it no longer."""
    row = await tx.first(select(TABLE).where(TABLE.c.id == id).with_for_update())
    if row is not None and row.status == TopUpStatus.PENDING:
        await _close(tx, row, status, row.reference, failure)


async def get(tx: Transaction, account_id: str, id: str) -> Row:
    row = await tx.first(select(TABLE).where(TABLE.c.id == id, TABLE.c.account_id == account_id))
    if row is None:
        raise NotFound("The requested top-up could not be found.")
    return row


async def list_page(tx: Transaction, account_id: str, before: tuple[datetime, str] | None, limit: int) -> list[Row]:
    """Newest first; `before` is the (created_at, id) of the last one seen."""
    order = (TABLE.c.created_at, TABLE.c.id)
    statement = select(TABLE).where(TABLE.c.account_id == account_id)
    if before is not None:
        statement = statement.where(tuple_(*order) < tuple_(*before))
    return list(await tx.all(statement.order_by(*(column.desc() for column in order)).limit(limit)))


async def pending_since(tx: Transaction, seconds: float, account_id: str | None = None, limit: int = 1000) -> list[Row]:
    """Those that have been on their way for so long, the oldest first; each with its `age_seconds`."""
    age = func.extract("epoch", func.now() - TABLE.c.created_at).label("age_seconds")
    old = (TABLE.c.status == TopUpStatus.PENDING.value, TABLE.c.created_at <= seconds_from_now(-seconds))
    statement = select(TABLE, age).where(*old)
    if account_id is not None:
        statement = statement.where(TABLE.c.account_id == account_id)
    return list(await tx.all(statement.order_by(TABLE.c.created_at).limit(limit)))


# --- hearing ----------------------------------------------------------------------------------------------------------


async def is_known(tx: Transaction, provider: str, event_id: str) -> bool:
    told = (PaymentEvent.provider == provider, PaymentEvent.event_id == event_id)
    return await tx.first(select(PaymentEvent.event_id).where(*told)) is not None


async def record(tx: Transaction, provider: str, payment: Payment, told: Told | None = None) -> None:
    """Writes down what has become of a payment, and moves its money: once, however often and in whatever order it is
    told. With the event that led to it, which is then known."""
    if told is not None and not await _is_news(tx, provider, told):
        return
    row = await tx.first(
        select(TABLE).where(TABLE.c.id == payment.top_up_id, TABLE.c.provider == provider).with_for_update()
    )
    if row is None:
        await _tell_unknown(tx, provider, payment)
        return
    if row.status != TopUpStatus.SUCCEEDED:
        row = await _advance(tx, row, payment)
    if row.status == TopUpStatus.SUCCEEDED:
        await _reverse(tx, row, payment)


async def _is_news(tx: Transaction, provider: str, told: Told) -> bool:
    new = upsert(PaymentEvent).values(provider=provider, event_id=told.id, type=told.type)
    return await tx.first(new.on_conflict_do_nothing().returning(PaymentEvent.event_id)) is not None


async def _advance(tx: Transaction, row: Row, payment: Payment) -> Row:
    if payment.status is TopUpStatus.SUCCEEDED:
        if payment.currency != CURRENCY or payment.cents * NANOS_PER_CENT != row.amount_nanos:
            return await _mismatched(tx, row, payment)
        return await _succeed(tx, row, payment)
    if payment.status is not TopUpStatus.PENDING and row.status == TopUpStatus.PENDING:
        return await _close(tx, row, payment.status, payment.reference, payment.failure)
    await refer(tx, row.id, payment.reference)
    return row


async def _succeed(tx: Transaction, row: Row, payment: Payment) -> Row:
    ended = await _end(tx, row, TopUpStatus.SUCCEEDED, payment.reference, None)
    label = payment.method.label if payment.method else row.provider
    what = "Auto-recharge" if row.kind == TopUpKind.RECHARGE else "Top-up"
    await credits.add(
        tx,
        row.account_id,
        kind=credits.PAID,
        amount_nanos=row.amount_nanos,
        reason=f"{what} by {label}",
        actor=row.actor,
        provider=row.provider,
        id=row.id,
    )
    if payment.method and row.kind == TopUpKind.CHECKOUT:
        await payment_methods.save(tx, row.account_id, row.provider, payment.method)
    return ended


async def _close(tx: Transaction, row: Row, status: TopUpStatus, reference: str | None, failure: str | None) -> Row:
    ended = await _end(tx, row, status, reference, failure)
    if row.kind == TopUpKind.RECHARGE:
        await payment_methods.pause(tx, row, failure or "The provider gave no reason.")
    return ended


async def _end(tx: Transaction, row: Row, status: TopUpStatus, reference: str | None, failure: str | None) -> Row:
    values = {"status": status.value, "reference": reference, "failure": failure, "completed_at": func.now()}
    ended = await tx.one(update(TABLE).where(TABLE.c.id == row.id).values(values).returning(TABLE))
    verb = {"succeeded": "succeed", "failed": "fail", "expired": "expire"}[status]
    shown = [{"status": each.status, "reference": each.reference, "failure": each.failure} for each in (row, ended)]
    await audit.record_change(
        tx, f"top_up.{verb}", f"top_up:{row.id}", account_id=row.account_id, before=shown[0], after=shown[1]
    )
    return ended


# --- what should not be -----------------------------------------------------------------------------------------------


async def _mismatched(tx: Transaction, row: Row, payment: Payment) -> Row:
    # Not in dollars: it may be yen, which have no cents.
    taken = f"{payment.cents} (smallest units of {payment.currency.upper()})"
    failure = f"The provider took {taken} where {row.amount_nanos // NANOS_PER_CENT} cents were asked for."
    log.error("payment differs from its top-up", top_up=row.id, reference=payment.reference, taken=taken)
    message = f"Top-up {row.id}: {failure} Nothing was credited: look into it."
    await _tell_admins(tx, "payment_mismatch", f"payment_mismatch:{row.id}", message, payment)
    if row.failure == failure:
        return row
    return await _close(tx, row, TopUpStatus.FAILED, payment.reference, failure)


async def _tell_unknown(tx: Transaction, provider: str, payment: Payment) -> None:
    """It bears our name, and there is no such top-up: it was made before the database was restored from a backup."""
    log.error("payment without a top-up", provider=provider, top_up=payment.top_up_id, reference=payment.reference)
    if payment.status is TopUpStatus.SUCCEEDED:
        message = (
            f"{provider} has the payment {payment.reference} for the top-up {payment.top_up_id}, which is not here. "
            "Nothing was credited: find out whose it is, and top up by hand."
        )
        await _tell_admins(tx, "payment_mismatch", f"payment_unknown:{payment.reference}", message, payment)


async def _reverse(tx: Transaction, row: Row, payment: Payment) -> None:
    """Takes out of the wallet what went back to the payer, each piece once; what is spent already is owed then."""
    for reversal in payment.reversals:
        id = f"{row.provider}:{reversal.id}"
        if await tx.first(select(LedgerEntry.id).where(LedgerEntry.transaction_id == id).limit(1)) is not None:
            continue
        money = {
            "amount_nanos": abs(reversal.cents) * NANOS_PER_CENT,
            "actor": row.provider,
            "provider": row.provider,
            "reason": f"{reversal.reason} of the top-up {row.id}",
            "id": id,
        }
        if reversal.cents > 0:
            await credits.adjust(tx, row.account_id, at_any_rate=True, **money)
            await payment_methods.stop_recharge(tx, row.account_id)
        else:
            await credits.add(tx, row.account_id, kind=credits.PAID, **money)
        message = f"{money['reason']}: {reversal.cents / 100:.2f} dollars."
        await alerts.tell(tx, row.account_id, "payment_reversed", message, {"top_up": row.id}, id)
        await _tell_admins(tx, "payment_reversed", id, message, payment)


async def _tell_admins(tx: Transaction, kind: str, id: str, message: str, payment: Payment) -> None:
    details = {"top_up": payment.top_up_id, "reference": payment.reference}
    for admin in await tx.all(select(Account.id).where(Account.is_admin, Account.deleted_at.is_(None))):
        await alerts.tell(tx, admin.id, kind, message, details, f"{id}:{admin.id}")
