"""Which credit is used first: the lowest priority, then what expires soonest, then the oldest.

What is left of an Account's credits is always what its wallet has above zero. `burn` sees to that.
"""

from collections.abc import Collection

from sqlalchemy import ARRAY, Insert, Text, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.tables import Credit, CreditBurn, Wallet

TABLE = Credit.__table__

_IN_LINE = (TABLE.c.account_id, TABLE.c.priority, TABLE.c.expires_at.nulls_last(), TABLE.c.created_at, TABLE.c.id)


async def burn(tx: Transaction, accounts: Collection[str]) -> None:
    """Takes off credits what their wallets, which are locked, have less than they."""
    await tx.execute(_BURN, {"p_accounts": list(accounts)})


def _burn() -> Insert:
    left = func.sum(TABLE.c.remaining_nanos).over(partition_by=TABLE.c.account_id)
    above_zero = func.greatest(Wallet.balance_nanos, 0)
    before = func.sum(TABLE.c.remaining_nanos).over(
        partition_by=TABLE.c.account_id, order_by=_IN_LINE[1:], rows=(None, -1)
    )
    in_line = (
        select(
            TABLE.c.id,
            TABLE.c.remaining_nanos,
            (left - above_zero).label("due"),
            func.coalesce(before, 0).label("before"),
        )
        .join(Wallet, Wallet.account_id == TABLE.c.account_id)
        .where(TABLE.c.account_id == func.any(bindparam("p_accounts", type_=ARRAY(Text))), TABLE.c.remaining_nanos > 0)
        .subquery()
    )
    share = func.least(in_line.c.remaining_nanos, in_line.c.due - in_line.c.before)
    shares = select(in_line.c.id, share.label("share")).where(in_line.c.due > in_line.c.before).subquery()
    burnt = (
        update(TABLE)
        .where(TABLE.c.id == shares.c.id)
        .values(remaining_nanos=TABLE.c.remaining_nanos - shares.c.share)
        .returning(TABLE.c.id, shares.c.share)
        .cte("burnt")
    )
    burns = CreditBurn.__table__
    today = func.date(func.timezone("UTC", func.now()))
    noting = upsert(burns).from_select(["credit_id", "day", "amount_nanos"], select(burnt.c.id, today, burnt.c.share))
    total = burns.c.amount_nanos + noting.excluded.amount_nanos
    return noting.on_conflict_do_update(index_elements=["credit_id", "day"], set_={"amount_nanos": total})


# Built once: that takes longer than to run it.
_BURN = _burn()
