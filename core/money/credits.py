"""Money put into wallets, piece by piece: paid, given, or given back, each with its own expiry and place in line.

What is left of an Account's credits is always what its wallet has above zero: see `burns`.
"""

from datetime import datetime

from sqlalchemy import Row, and_, func, insert, select, update

from core.database import Transaction
from core.errors import Conflict, Invalid
from core.ids import new_id
from core.money import burns, ledger, wallets
from core.money.holds import WALLET
from core.money.ledger import Kind
from core.money.pricing import NANOS_PER_DOLLAR, dollars
from core.people import audit
from core.tables import Credit

TABLE = Credit.__table__
PAID, PROMOTIONAL, REFUND = "paid", "promotional", "refund"
BY_HAND = "by_hand"

#: Promotional credit goes first: who has paid keeps what they paid.
PRIORITIES = {PROMOTIONAL: 50, REFUND: 90, PAID: 100}
#: A billion dollars, in one piece and in one wallet: what a bigint of nanodollars holds nine times over.
MOST_NANOS = 10**9 * NANOS_PER_DOLLAR


async def add(
    tx: Transaction,
    account_id: str,
    *,
    kind: str,
    amount_nanos: int,
    reason: str,
    actor: str,
    provider: str = BY_HAND,
    priority: int | None = None,
    expires_at: datetime | None = None,
    id: str | None = None,
) -> Row:
    """Puts money into a wallet; what is owed is paid with it at once. The same `id` again is refused by the database.

    `kind` is `paid` (it came in by `provider`) or `promotional`. Raises `Invalid`, `NotFound`.
    """
    if not 0 < amount_nanos <= MOST_NANOS:
        raise Invalid(f"Credit is more than 0 and at most {dollars(MOST_NANOS)} dollars.")
    if not reason.strip():
        raise Invalid("Say what the credit is for: whoever looks at the bill will ask.")
    if expires_at is not None and await tx.scalar(select(expires_at <= func.now())):
        raise Invalid("Credit that has expired already is none.")
    id = id or new_id()
    source = ledger.PROMOTIONS if kind == PROMOTIONAL else ledger.cash(provider)
    move = Kind.PROMOTION if kind == PROMOTIONAL else Kind.TOP_UP
    before = await wallets.lock(tx, account_id)
    if before.balance_nanos + amount_nanos > MOST_NANOS:
        raise Invalid(f"A wallet holds at most {dollars(MOST_NANOS)} dollars.")
    own = ledger.account(account_id)
    money = {"amount_nanos": amount_nanos, "actor": actor, "reason": reason}
    await ledger.move(tx, id, move, debit=source, credit=own, **money)
    row = await _put(tx, account_id, id=id, kind=kind, priority=priority, expires_at=expires_at, **money)
    after = before.balance_nanos + amount_nanos
    await audit.record(
        tx,
        f"credit.{move}",
        f"credit:{id}",
        account_id=account_id,
        before={"balance": dollars(before.balance_nanos)},
        after={"balance": dollars(after), "amount": dollars(amount_nanos), "kind": kind, "reason": reason},
    )
    return row


async def give_back(tx: Transaction, account_id: str, id: str, amount_nanos: int, reason: str, actor: str) -> Row:
    """The credit that a refund becomes, in a locked wallet; its own ledger entries are the caller's."""
    money = {"amount_nanos": amount_nanos, "actor": actor, "reason": reason}
    return await _put(tx, account_id, id=id, kind=REFUND, priority=None, expires_at=None, **money)


async def _put(tx: Transaction, account_id: str, *, kind: str, priority: int | None, **values) -> Row:
    priority = PRIORITIES[kind] if priority is None else priority
    values |= {"account_id": account_id, "kind": kind, "priority": priority}
    row = await tx.one(insert(TABLE).values(**values, remaining_nanos=values["amount_nanos"]).returning(TABLE))
    await wallets.add(tx, account_id, values["amount_nanos"])
    await burns.burn(tx, [account_id])
    return row


async def adjust(
    tx: Transaction,
    account_id: str,
    *,
    amount_nanos: int,
    reason: str,
    actor: str,
    provider: str = BY_HAND,
    at_any_rate: bool = False,
    id: str | None = None,
) -> None:
    """Takes money out of a wallet: a slip put right, or a payment that went back. Raises `Conflict` where it is not
    there any more, unless `at_any_rate`: then it is owed."""
    if not 0 < amount_nanos <= MOST_NANOS:
        raise Invalid(f"An adjustment is more than 0 and at most {dollars(MOST_NANOS)} dollars.")
    wallet = await wallets.lock(tx, account_id)
    left = wallet.balance_nanos - wallet.held_nanos
    if amount_nanos > left and not at_any_rate:
        raise Conflict(f"The wallet has {dollars(left)} dollars that are not spent or held; no more can be taken out.")
    id, own = id or new_id(), ledger.account(account_id)
    money = {"amount_nanos": amount_nanos, "actor": actor, "reason": reason}
    await ledger.move(tx, id, Kind.ADJUSTMENT, debit=own, credit=ledger.cash(provider), **money)
    await wallets.add(tx, account_id, -amount_nanos)
    await burns.burn(tx, [account_id])
    before, after = wallet.balance_nanos, wallet.balance_nanos - amount_nanos
    await audit.record(
        tx,
        "wallet.adjust",
        f"account:{account_id}",
        account_id=account_id,
        before={"balance": dollars(before)},
        after={"balance": dollars(after), "reason": reason},
    )


async def expire(tx: Transaction, limit: int = 100) -> int:
    """Takes away what was not used in time, but for what is held for runs that go on: that is asked for again later."""
    due = and_(TABLE.c.remaining_nanos > 0, TABLE.c.expires_at <= func.now())
    # Those with all of theirs held would be looked at again and again, before all others.
    has_some = and_(WALLET.c.account_id == TABLE.c.account_id, WALLET.c.balance_nanos > WALLET.c.held_nanos)
    rows = await tx.all(select(TABLE.c.account_id).join(WALLET, has_some).where(due).distinct().limit(limit))
    # In the order in which everybody locks wallets.
    return sum([await _expire_of(tx, account_id) for account_id in sorted(row.account_id for row in rows)])


async def _expire_of(tx: Transaction, account_id: str) -> int:
    wallet = await wallets.lock(tx, account_id)
    free = max(0, wallet.balance_nanos - wallet.held_nanos)
    due = (TABLE.c.account_id == account_id, TABLE.c.remaining_nanos > 0, TABLE.c.expires_at <= func.now())
    count = 0
    for row in await tx.all(select(TABLE).where(*due).order_by(TABLE.c.expires_at)):
        amount = min(row.remaining_nanos, free)
        if not amount:
            break
        free -= amount
        count += 1
        await _expire(tx, row, amount)
    return count


async def _expire(tx: Transaction, row: Row, amount: int) -> None:
    gone = {"remaining_nanos": TABLE.c.remaining_nanos - amount, "expired_nanos": TABLE.c.expired_nanos + amount}
    await tx.execute(update(TABLE).where(TABLE.c.id == row.id).values(gone))
    await wallets.add(tx, row.account_id, -amount)
    id = f"expiry:{row.id}:{row.expired_nanos}"
    own, reason = ledger.account(row.account_id), f"Credit of {row.created_at:%Y-%m-%d} expired"
    move = {"debit": own, "credit": ledger.EXPIRED, "amount_nanos": amount, "actor": "credit expiry", "reason": reason}
    await ledger.move(tx, id, Kind.EXPIRY, corrects=row.id, **move)
    after = {"expired": dollars(amount), "remaining": dollars(row.remaining_nanos - amount)}
    await audit.record(tx, "credit.expire", f"credit:{row.id}", account_id=row.account_id, after=after)


async def of_account(tx: Transaction, account_id: str, limit: int = 200) -> list[Row]:
    """The latest first."""
    newest = select(TABLE).where(TABLE.c.account_id == account_id).order_by(TABLE.c.created_at.desc(), TABLE.c.id)
    return list(await tx.all(newest.limit(limit)))
