"""Auto-recharge: whether an Account is charged now, and how much. The decision is pure; its guards are what others
learnt the hard way: what is on its way counts, a decline is followed by an hour of silence, and a burst is cut short.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select

from core.database import Transaction, seconds_from_now
from core.ids import new_id
from core.money import wallets
from core.payments import payment_methods, payments
from core.payments.payments import NANOS_PER_CENT, TopUpKind, TopUpStatus
from core.tables import Account, PaymentMethod, TopUp, Wallet

#: Who spends faster than this pays by hand, or has a thief.
MOST_IN_BURST, BURST_SECONDS = 3, 600
#: An owner who is on the page to pay is not charged meanwhile. Most who stay longer have left it.
CHECKOUT_SECONDS = 600

ACTOR = "auto-recharge"


@dataclass(frozen=True, slots=True)
class Standing:
    """What the decision looks at."""

    left_nanos: int
    """In the wallet, and not held."""
    pending_nanos: int
    """On its way into it."""
    below_nanos: int
    to_nanos: int
    is_paused: bool = False
    recent: int = 0
    """Recharges of the last minutes, whatever became of them."""


def due_nanos(standing: Standing) -> int:
    """What to charge now, in whole cents; 0: nothing."""
    expected = standing.left_nanos + standing.pending_nanos
    if standing.is_paused or standing.recent >= MOST_IN_BURST or expected >= standing.below_nanos:
        return 0
    missing = -(-(standing.to_nanos - expected) // NANOS_PER_CENT) * NANOS_PER_CENT
    return min(max(missing, payments.LEAST_NANOS), payments.MOST_NANOS)


async def start(tx: Transaction, account_id: str, provider: str) -> tuple[Row, Row] | None:
    """The pending top-up that is to be charged now, and the method to charge; None: nothing is due."""
    method = await payment_methods.lock(tx, account_id)
    if method is None or method.method is None or method.recharge_below_nanos is None or method.provider != provider:
        return None
    if await tx.scalar(select(Account.deleted_at.is_not(None)).where(Account.id == account_id)):
        return None
    amount = due_nanos(await _standing(tx, method))
    if not amount:
        return None
    return await payments.start(tx, new_id(), account_id, TopUpKind.RECHARGE, amount, provider, ACTOR), method


async def _standing(tx: Transaction, method: Row) -> Standing:
    # Before the wallet: what arrives between the two is counted twice, and would be charged twice the other way round.
    pending = await tx.scalar(_pending(TopUp.account_id == method.account_id))
    wallet = await wallets.get(tx, method.account_id)
    is_recent = and_(TopUp.kind == TopUpKind.RECHARGE, TopUp.created_at > seconds_from_now(-BURST_SECONDS))
    recent = select(func.count()).where(TopUp.account_id == method.account_id, is_recent)
    return Standing(
        left_nanos=wallet.balance_nanos - wallet.held_nanos,
        pending_nanos=int(pending),
        below_nanos=method.recharge_below_nanos,
        to_nanos=method.recharge_to_nanos,
        is_paused=method.is_paused,
        recent=await tx.scalar(recent),
    )


def _pending(whose: ColumnElement[bool]) -> Select:
    counts = or_(TopUp.kind == TopUpKind.RECHARGE, TopUp.created_at > seconds_from_now(-CHECKOUT_SECONDS))
    amount = func.coalesce(func.sum(TopUp.amount_nanos), 0)
    return select(amount).where(whose, TopUp.status == TopUpStatus.PENDING.value, counts)


async def candidates(tx: Transaction, limit: int) -> list[str]:
    """Accounts that look as if they were due; `start` looks closely."""
    left = Wallet.balance_nanos - Wallet.held_nanos
    pending = _pending(TopUp.account_id == PaymentMethod.account_id).correlate(PaymentMethod).scalar_subquery()
    is_free = or_(PaymentMethod.paused_until.is_(None), PaymentMethod.paused_until <= func.now())
    rows = await tx.all(
        select(PaymentMethod.account_id)
        .join(Wallet, Wallet.account_id == PaymentMethod.account_id)
        .join(Account, and_(Account.id == PaymentMethod.account_id, Account.deleted_at.is_(None)))
        .where(PaymentMethod.method.is_not(None), is_free, left + pending < PaymentMethod.recharge_below_nanos)
        .order_by(PaymentMethod.account_id)
        .limit(limit)
    )
    return [row.account_id for row in rows]
