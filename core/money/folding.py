"""Adds postings up: to wallets, and to everything else that sums up usage. Many at a time, and nothing twice or half.

All of it happens under the wallet's lock: the roll-ups, volume discounts, credits, and spend limits.
"""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, case, delete, func, literal, select, update
from sqlalchemy.types import BigInteger

from core.database import Transaction, one_of
from core.money import alerts, burns, discounts, limits
from core.money.holds import WALLET
from core.money.pricing import dollars
from core.tables import Wallet, WalletPosting
from core.usage import rollups

POSTING = WalletPosting.__table__

#: Postings folded at once: a twentieth of a second's work, during which creates of these Accounts wait.
AT_ONCE = 2000


async def fold(tx: Transaction, account_id: str | None = None, limit: int = AT_ONCE) -> int:
    """Adds up postings, the oldest; of one Account or of all. Returns how many; `limit`: there may be more.

    An Account's postings belong to whoever has its wallet locked, so whoever locks that afterwards sees them added up.
    """
    oldest = select(POSTING.c.id, POSTING.c.account_id).order_by(POSTING.c.id).limit(limit)
    if account_id is not None:
        oldest = oldest.where(POSTING.c.account_id == account_id)
    rows = await tx.all(oldest)
    if not rows:
        return 0
    accounts = sorted({row.account_id for row in rows})
    # One order for everybody who locks more than one.
    ordered = select(WALLET.c.account_id).where(one_of(WALLET.c.account_id, accounts)).order_by(WALLET.c.account_id)
    await tx.execute(ordered.with_for_update())
    # Somebody else may have had a wallet until a moment ago, and added up some of these.
    left = select(POSTING.c.id).where(POSTING.c.id == func.any([row.id for row in rows]))
    ids = [row.id for row in await tx.all(left)]
    await rollups.add(tx, ids)
    given_back = await discounts.give(tx, ids)
    await _add_up(tx, ids, given_back)
    await burns.burn(tx, accounts)
    await limits.watch(tx, accounts)
    await _watch_balances(tx, accounts)
    return len(ids)


async def _add_up(tx: Transaction, ids: Sequence[int], given_back: Mapping[str, int]) -> None:
    taken = delete(POSTING).where(POSTING.c.id == func.any(ids)).returning(POSTING).cte("taken")
    sums = (
        select(
            taken.c.account_id,
            func.sum(taken.c.amount_nanos).label("amount_nanos"),
            func.sum(taken.c.released_nanos).label("released_nanos"),
        )
        .group_by(taken.c.account_id)
        .subquery()
    )
    await tx.execute(
        update(WALLET)
        .where(WALLET.c.account_id == sums.c.account_id)
        .values(
            balance_nanos=WALLET.c.balance_nanos + sums.c.amount_nanos + _given(given_back),
            held_nanos=WALLET.c.held_nanos - sums.c.released_nanos,
        )
    )


def _given(back: Mapping[str, int]) -> ColumnElement[int]:
    cases = {account_id: literal(nanos, BigInteger) for account_id, nanos in back.items()}
    return case(cases, value=WALLET.c.account_id, else_=0) if cases else literal(0, BigInteger)


async def _watch_balances(tx: Transaction, accounts: Collection[str]) -> None:
    """Tells owners once that little is left, and again only after it was more in between."""
    watched = one_of(Wallet.account_id, accounts), Wallet.low_balance_nanos.is_not(None)
    recovered = Wallet.balance_nanos >= Wallet.low_balance_nanos
    await tx.execute(update(Wallet).where(*watched, Wallet.is_low, recovered).values(is_low=False))
    low = update(Wallet).where(*watched, ~Wallet.is_low, ~recovered).values(is_low=True).returning(Wallet)
    for row in await tx.all(low):
        await alerts.tell(
            tx,
            row.account_id,
            "low_balance",
            f"The balance is {dollars(row.balance_nanos)} dollars: less than {dollars(row.low_balance_nanos)}.",
            {"balance_nanos": row.balance_nanos, "threshold_nanos": row.low_balance_nanos},
        )
