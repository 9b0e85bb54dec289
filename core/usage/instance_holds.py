"""What is set aside in the wallets of those who pay for the time of their Instances.

As much as has been counted and not been charged yet, and a minute more. What is charged takes it up; what is left when
an Instance has ended is given back. Whoever may owe without limit has nothing set aside.
"""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Row, case, cast, exists, func, insert, literal, select, union, update

from core.database import Transaction
from core.lifecycle import LIVE_INSTANCE
from core.money import holds, prices, wallets
from core.tables import Instance, Wallet, WalletPosting
from core.usage.instance_owners import AHEAD_SECONDS
from core.usage.instance_time import TIME
from core.usage.metering import amount

#: More is set aside once less than this is left: two passes of the meter, and the report before them.
_LEAST_AHEAD_SECONDS = AHEAD_SECONDS // 2

_INSTANCE = Instance.__table__
_IS_LIVE = _INSTANCE.c.status.in_(LIVE_INSTANCE)


async def short(tx: Transaction) -> Sequence[Row]:
    """Instances for which more is to be set aside: with `owner_id`, `is_live`, `accrued_nanos`, `least_nanos` and
    `missing_nanos`."""
    nanos = func.sum(amount(TIME.c.micros, TIME.c.price_nanos_per_second))
    accrued = select(TIME.c.instance_id, cast(nanos, BigInteger).label("nanos")).group_by(TIME.c.instance_id).subquery()
    _, second = prices.second_of(_INSTANCE.c.hardware_sku, _INSTANCE.c.owner_id, func.now())
    # By indexes: ended Instances are many, and mostly have nothing to do with this.
    concerned = union(select(_INSTANCE.c.id).where(_IS_LIVE), select(TIME.c.instance_id))
    found = (
        select(
            _INSTANCE.c.id,
            _INSTANCE.c.owner_id,
            _INSTANCE.c.model,
            _INSTANCE.c.deployment,
            _INSTANCE.c.held_nanos,
            _IS_LIVE.label("is_live"),
            func.coalesce(accrued.c.nanos, 0).label("accrued_nanos"),
            case((_IS_LIVE, second), else_=0).label("second_nanos"),
        )
        .outerjoin(accrued, accrued.c.instance_id == _INSTANCE.c.id)
        .join(Wallet, Wallet.account_id == _INSTANCE.c.owner_id)
        .where(_INSTANCE.c.id.in_(concerned), _INSTANCE.c.bills_time, Wallet.credit_limit_nanos.is_not(None))
        .subquery()
    )
    least = found.c.accrued_nanos + found.c.second_nanos * _LEAST_AHEAD_SECONDS
    missing = found.c.accrued_nanos + found.c.second_nanos * AHEAD_SECONDS - found.c.held_nanos
    return await tx.all(
        select(*found.c, least.label("least_nanos"), missing.label("missing_nanos"))
        .where(found.c.held_nanos < least)
        .order_by(found.c.owner_id, found.c.id)
    )


async def fill(tx: Transaction, owner_id: str, rows: Sequence[Row]) -> tuple[str, list[Row]]:
    """Sets aside what those of `short` lack which this owner pays, or as much of it as there is. Returns the wallet's
    rule for when it is empty, and those for which it was."""
    wallet = await wallets.lock(tx, owner_id)
    may_owe, left = wallet.when_empty == wallets.FINISH, wallet.spendable_nanos
    unpaid = []
    for row in rows:
        funded = min(row.missing_nanos, max(left, 0))
        taken = row.missing_nanos if may_owe else funded
        if taken:
            await holds.extend_instance(tx, row.id, taken, at_any_rate=may_owe)
        left -= taken
        if row.held_nanos + funded < row.least_nanos:
            unpaid.append(row)
    return wallet.when_empty, unpaid


async def release(tx: Transaction) -> int:
    """Gives back what is left of Instances that have ended and whose time is all charged. Returns how many."""
    is_open = exists().where(TIME.c.instance_id == _INSTANCE.c.id)
    left = (
        select(_INSTANCE.c.id, _INSTANCE.c.owner_id, _INSTANCE.c.held_nanos)
        .where(_INSTANCE.c.held_nanos > 0, ~_IS_LIVE, ~is_open)
        .with_for_update(key_share=True, skip_locked=True)
        .cte("over")
    )
    emptied = update(_INSTANCE).where(_INSTANCE.c.id == left.c.id).values(held_nanos=0).cte("emptied")
    columns = ("account_id", "amount_nanos", "released_nanos")
    given = insert(WalletPosting).from_select(columns, select(left.c.owner_id, literal(0), left.c.held_nanos))
    return await tx.scalar(select(func.count()).select_from(left).add_cte(emptied, given.cte("given")))
