"""Money moved by hand: credit given, taken out, or given back; each once, however often the same request comes.

The `id` is that of the ledger transaction. What has it already is returned as it is, and nothing moves again.
"""

from datetime import datetime

from sqlalchemy import Row, select

from core.database import Transaction
from core.money import credits, entries, refunds
from core.tables import Credit


async def give(
    tx: Transaction,
    account_id: str,
    *,
    id: str,
    kind: str,
    amount_nanos: int,
    reason: str,
    actor: str,
    priority: int | None = None,
    expires_at: datetime | None = None,
) -> Row:
    """The credit. Raises `Invalid`, `NotFound`."""
    before = await tx.first(select(Credit).where(Credit.id == id))
    if before is not None:
        return before
    terms = {"priority": priority, "expires_at": expires_at}
    money = {"kind": kind, "amount_nanos": amount_nanos, "reason": reason, "actor": actor}
    return await credits.add(tx, account_id, id=id, **money, **terms)


async def take(
    tx: Transaction, account_id: str, *, id: str, amount_nanos: int, reason: str, actor: str, may_owe: bool = False
) -> Row:
    """The ledger entry. Raises `Conflict` where so much is not there, unless it may be owed; `Invalid`, `NotFound`."""
    before = await entries.find(tx, account_id, id)
    if before is not None:
        return before
    money = {"amount_nanos": amount_nanos, "reason": reason, "actor": actor}
    await credits.adjust(tx, account_id, id=id, at_any_rate=may_owe, **money)
    return await entries.entry(tx, account_id, id)


async def refund(tx: Transaction, usage: Row, *, id: str, amount_nanos: int | None, reason: str, actor: str) -> Row:
    """The ledger entry; without an amount, all that is left of the charge. Raises `Conflict`, `Invalid`."""
    before = await entries.find(tx, usage.account_id, id)
    if before is not None:
        return before
    await refunds.give(tx, usage, amount_nanos=amount_nanos, reason=reason, actor=actor, id=id)
    return await entries.entry(tx, usage.account_id, id)
