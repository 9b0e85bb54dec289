"""Double entry, append only. A transaction is a set of entries that sums to zero; a balance is a sum of entries.

    kind     debits                 credits            one sentence
    usage    account:<id>           revenue:usage      An account ran something and owes for it.

The unique key (transaction, ledger account) is what makes charging twice impossible, not the callers' care.
"""

from sqlalchemy import CTE, ColumnElement, Insert, Select, func, insert, literal, select, union_all

from core.database import Transaction
from core.tables import LedgerEntry

REVENUE = "revenue:usage"


def account(account_id: str) -> str:
    """The ledger account that holds what an account has paid in, less what it has used."""
    return f"account:{account_id}"


def charge(usage: CTE) -> Insert:
    """Moves the amount of freshly written usage records from their accounts to revenue."""
    debit = _side(usage, "debit", literal("account:") + usage.c.account_id, -usage.c.amount_nanos)
    credit = _side(usage, "credit", literal(REVENUE), usage.c.amount_nanos)
    columns = ("id", "transaction_id", "kind", "ledger_account", "amount_nanos", "usage_record_id")
    return insert(LedgerEntry).from_select(columns, union_all(debit, credit))


def _side(usage: CTE, side: str, ledger_account: ColumnElement[str], amount: ColumnElement[int]) -> Select:
    # Ids follow from the cause, so that even a second attempt to charge it could only collide.
    return select(usage.c.id + f":{side}", usage.c.id, literal("usage"), ledger_account, amount, usage.c.id)


async def balance(tx: Transaction, ledger_account: str) -> int:
    """Nanodollars; negative: owed."""
    total = select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0))
    return int(await tx.scalar(total.where(LedgerEntry.ledger_account == ledger_account)))
