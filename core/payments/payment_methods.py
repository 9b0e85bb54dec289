"""How an Account pays by card, and when by itself. The provider keeps the card; here is what it is called there."""

from dataclasses import dataclass

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction, seconds_from_now
from core.errors import Conflict, Invalid
from core.money import alerts
from core.money.pricing import NANOS_PER_DOLLAR
from core.people import audit
from core.tables import PaymentMethod

#: Less often than this there is no use in it, and the provider's fee would eat it.
LEAST_BELOW_NANOS, LEAST_TO_NANOS = 5 * NANOS_PER_DOLLAR, 15 * NANOS_PER_DOLLAR
LEAST_STEP_NANOS, MOST_TO_NANOS = 5 * NANOS_PER_DOLLAR, 10_000 * NANOS_PER_DOLLAR
#: A card that was declined is declined again the minute after, and banks remember who keeps asking.
PAUSE_SECONDS = 3600

TABLE = PaymentMethod.__table__
_SHOWN = ("provider", "label", "recharge_below_nanos", "recharge_to_nanos")


@dataclass(frozen=True, slots=True)
class Method:
    """A saved one, by the provider's names; `label` is for people: `visa 4242`."""

    customer: str
    id: str
    label: str


async def get(tx: Transaction, account_id: str) -> Row | None:
    return await tx.first(select(TABLE).where(TABLE.c.account_id == account_id))


async def lock(tx: Transaction, account_id: str) -> Row | None:
    """With whether it `is_paused`. Whoever holds it alone decides about recharges of this Account."""
    is_paused = func.coalesce(TABLE.c.paused_until > func.now(), False).label("is_paused")
    return await tx.first(select(TABLE, is_paused).where(TABLE.c.account_id == account_id).with_for_update())


async def introduce(tx: Transaction, account_id: str, provider: str, customer: str) -> None:
    """Keeps what the provider calls the Account, from its first top-up on."""
    new = upsert(TABLE).values(account_id=account_id, provider=provider, customer=customer)
    await tx.execute(new.on_conflict_do_nothing(index_elements=["account_id"]))


async def save(tx: Transaction, account_id: str, provider: str, method: Method) -> None:
    """Pays by this one from now on. When it recharges stays as it is."""
    values = {"provider": provider, "customer": method.customer, "method": method.id, "label": method.label}
    saving = upsert(TABLE).values(account_id=account_id, **values)
    before = await lock(tx, account_id)
    await tx.execute(saving.on_conflict_do_update(index_elements=["account_id"], set_={**values, "paused_until": None}))
    await _audit(tx, "payment_method.save", account_id, before)


async def set_recharge(tx: Transaction, account_id: str, below_nanos: int, to_nanos: int) -> Row:
    """Recharges by itself once less than `below` is left, up to `to`. Raises `Invalid`, `Conflict`."""
    if below_nanos < LEAST_BELOW_NANOS or not LEAST_TO_NANOS <= to_nanos <= MOST_TO_NANOS:
        raise Invalid("Recharge below 5 dollars or more, and to 15 dollars or more, at most 10000.")
    if to_nanos < below_nanos + LEAST_STEP_NANOS:
        raise Invalid("Recharge to at least 5 dollars more than the amount below which it begins.")
    before = await lock(tx, account_id)
    if before is None or before.method is None:
        raise Conflict("There is no saved payment method: top up by card once, which saves it.")
    values = {"recharge_below_nanos": below_nanos, "recharge_to_nanos": to_nanos, "paused_until": None}
    return await _change(tx, "payment_method.set_recharge", before, values)


async def stop_recharge(tx: Transaction, account_id: str) -> Row | None:
    """Nothing is charged any more unless its owner pays."""
    before = await lock(tx, account_id)
    values = {"recharge_below_nanos": None, "recharge_to_nanos": None, "paused_until": None}
    return None if before is None else await _change(tx, "payment_method.stop_recharge", before, values)


async def forget(tx: Transaction, account_id: str, method: str) -> None:
    """Unless another has been saved since."""
    before = await lock(tx, account_id)
    if before is not None and before.method == method:
        values = {"method": None, "label": None, "recharge_below_nanos": None, "recharge_to_nanos": None}
        await _change(tx, "payment_method.forget", before, values)


async def pause(tx: Transaction, top_up: Row, failure: str) -> None:
    """After a recharge that failed: none for a while, and its owner is told."""
    paused = update(TABLE).where(TABLE.c.account_id == top_up.account_id)
    await tx.execute(paused.values(paused_until=seconds_from_now(PAUSE_SECONDS)))
    message = f"Auto-recharge failed and is paused for an hour: {failure} Check the card, or top up by hand."
    details = {"top_up": top_up.id, "amount_nanos": top_up.amount_nanos}
    await alerts.tell(tx, top_up.account_id, "recharge_failed", message, details, f"recharge_failed:{top_up.id}")


async def _change(tx: Transaction, action: str, before: Row, values: dict) -> Row:
    changed = update(TABLE).where(TABLE.c.account_id == before.account_id).values(values)
    await tx.execute(changed)
    return await _audit(tx, action, before.account_id, before)


async def _audit(tx: Transaction, action: str, account_id: str, before: Row | None) -> Row:
    after = await tx.one(select(TABLE).where(TABLE.c.account_id == account_id))
    was, now = ({name: getattr(row, name, None) for name in _SHOWN} for row in (before, after))
    await audit.record_change(tx, action, f"payment_method:{account_id}", account_id=account_id, before=was, after=now)
    return after
