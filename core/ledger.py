"""Double entry, append only. A transaction is a set of entries that sums to zero; a balance is a sum of entries.

    kind     debits                 credits            one sentence
    usage    account:<id>           revenue:usage      An account ran something and owes for it.

The unique key (usage record, ledger account) is what makes charging twice impossible, not the callers' care.
"""

from sqlalchemy import func, insert, select

from core.database import Transaction
from core.ids import new_id
from core.tables import LedgerEntry

REVENUE = "revenue:usage"


def account(account_id: str) -> str:
    """The ledger account that holds what an account has paid in, less what it has used."""
    return f"account:{account_id}"


async def charge_usage(tx: Transaction, account_id: str, usage_record_id: str, amount_nanos: int) -> None:
    """Moves `amount_nanos` from the account to revenue, for exactly this usage record."""
    common = {"transaction_id": new_id(), "kind": "usage", "usage_record_id": usage_record_id}
    await tx.execute(
        insert(LedgerEntry),
        [
            {"id": new_id(), "ledger_account": account(account_id), "amount_nanos": -amount_nanos, **common},
            {"id": new_id(), "ledger_account": REVENUE, "amount_nanos": amount_nanos, **common},
        ],
    )


async def balance(tx: Transaction, ledger_account: str) -> int:
    """Nanodollars; negative: owed."""
    total = select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0))
    return int(await tx.scalar(total.where(LedgerEntry.ledger_account == ledger_account)))
