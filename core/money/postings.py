"""What an end changes in its Account's wallet, written beside it instead of into it.

One row for each, so that a thousand ends of one Account wait for nobody's row lock; `wallets.fold` adds them up. Until
then the wallet shows less than there is, never more: holds are released late, and charges never exceed them.
"""

from sqlalchemy import CTE, Insert, Select, case, func, insert, literal, or_, select

from core.tables import WalletPosting
from core.usage.metering import PREDICTION

_COLUMNS = ("account_id", "amount_nanos", "released_nanos", "usage_record_id")


def releases(ended: CTE) -> Insert:
    """Gives back what was held for predictions that end without having been measured."""
    held = select(ended.c.account_id, literal(0), ended.c.held_nanos, literal(None))
    return insert(WalletPosting).from_select(_COLUMNS, held.where(ended.c.held_nanos.is_not(None)))


def charged(ended: CTE, usage: CTE, cause_kind: str = PREDICTION) -> Select:
    """What each fresh usage record is charged, and what of that is waived: a hold is the most that may be spent.

    `ended` has the causes: (id, account_id, held_nanos); none held: it is owed without limit.
    """
    over = case((ended.c.held_nanos.is_(None), 0), else_=func.greatest(usage.c.amount_nanos - ended.c.held_nanos, 0))
    return select(
        usage.c.id.label("usage_record_id"),
        ended.c.id,
        usage.c.account_id,
        usage.c.amount_nanos,
        over.label("waived_nanos"),
    ).join_from(usage, ended, usage.c.id == literal(f"{cause_kind}:") + ended.c.id)


def settles(ended: CTE, charged: CTE) -> Insert:
    """Charges the wallet, and releases the hold."""
    amount = func.coalesce(charged.c.waived_nanos - charged.c.amount_nanos, 0)
    moved = (
        select(ended.c.account_id, amount, func.coalesce(ended.c.held_nanos, 0), charged.c.usage_record_id)
        .outerjoin_from(ended, charged, charged.c.id == ended.c.id)
        .where(or_(charged.c.usage_record_id.is_not(None), ended.c.held_nanos.is_not(None)))
    )
    return insert(WalletPosting).from_select(_COLUMNS, moved)
