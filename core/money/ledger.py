"""Double entry, append only. A transaction is a set of entries that sums to zero; a balance is a sum of entries.

    kind        debits              credits             one sentence
    usage       account:<id>        revenue:usage       An Account ran something and owes for it.
    waiver      expense:waived      account:<id>        What a run cost beyond its hold is not asked for.
    discount    expense:discounts   account:<id>        Free units, and cheaper ones beyond a volume.
    refund      revenue:usage       account:<id>        A charge is given back, in whole or in part.
    top_up      cash:<provider>     account:<id>        The Account paid.
    promotion   expense:promotions  account:<id>        The Account was given credit.
    expiry      account:<id>        revenue:expired     Credit was not used in time.
    adjustment  account:<id>        cash:<provider>     A payment went back, or somebody put a slip right (or reversed).

The unique key (transaction, ledger account) is what makes charging twice impossible, not the callers' care.
"""

from enum import StrEnum

from sqlalchemy import CTE, ColumnElement, Insert, Select, func, insert, literal, select, union_all

from core.database import Transaction
from core.tables import LedgerEntry

REVENUE = "revenue:usage"
EXPIRED = "revenue:expired"
WAIVED = "expense:waived"
DISCOUNTS = "expense:discounts"
PROMOTIONS = "expense:promotions"


class Kind(StrEnum):
    USAGE = "usage"
    WAIVER = "waiver"
    DISCOUNT = "discount"
    REFUND = "refund"
    TOP_UP = "top_up"
    PROMOTION = "promotion"
    EXPIRY = "expiry"
    ADJUSTMENT = "adjustment"


def account(account_id: str) -> str:
    """The ledger account that holds what an Account has paid in, less what it has used."""
    return f"account:{account_id}"


def cash(provider: str) -> str:
    """The ledger account of the money that came in that way: `stripe`, `by_hand`."""
    return f"cash:{provider}"


def charge(charged: CTE) -> Insert:
    """Moves the amounts of freshly written usage records from their Accounts to revenue, and waives what exceeds their
    holds. `charged` has (usage_record_id, account_id, amount_nanos, waived_nanos)."""
    own = literal("account:") + charged.c.account_id
    usage, waiver = charged.c.usage_record_id, charged.c.usage_record_id + ":waiver"
    amount, waived = charged.c.amount_nanos, charged.c.waived_nanos
    sides = [
        _side(charged, usage, Kind.USAGE, "debit", own, -amount),
        _side(charged, usage, Kind.USAGE, "credit", literal(REVENUE), amount),
        _side(charged, waiver, Kind.WAIVER, "debit", literal(WAIVED), -waived).where(waived > 0),
        _side(charged, waiver, Kind.WAIVER, "credit", own, waived).where(waived > 0),
    ]
    columns = ("id", "transaction_id", "kind", "ledger_account", "amount_nanos", "usage_record_id")
    return insert(LedgerEntry).from_select(columns, union_all(*sides))


def _side(
    charged: CTE,
    transaction: ColumnElement[str],
    kind: Kind,
    side: str,
    ledger_account: ColumnElement[str],
    amount: ColumnElement[int],
) -> Select:
    # Ids follow from the cause, so that even a second attempt to charge it could only collide.
    id = transaction + f":{side}"
    return select(id, transaction, literal(kind.value), ledger_account, amount, charged.c.usage_record_id)


async def move(
    tx: Transaction,
    transaction_id: str,
    kind: Kind,
    *,
    debit: str,
    credit: str,
    amount_nanos: int,
    actor: str,
    reason: str,
    corrects: str | None = None,
) -> None:
    """One transfer that is no charge. The same transaction twice is refused by the database."""
    sides = ((debit, "debit", -amount_nanos), (credit, "credit", amount_nanos))
    common = {"transaction_id": transaction_id, "kind": kind.value, "actor": actor, "reason": reason}
    await tx.execute(
        insert(LedgerEntry),
        [
            {
                "id": f"{transaction_id}:{side}",
                "ledger_account": ledger_account,
                "amount_nanos": amount,
                "corrects": corrects,
                **common,
            }
            for ledger_account, side, amount in sides
        ],
    )


async def balance(tx: Transaction, ledger_account: str) -> int:
    """Nanodollars; negative: owed. Summed up, which takes its time: what an Account may spend is in its wallet."""
    total = select(func.coalesce(func.sum(LedgerEntry.amount_nanos), 0))
    return int(await tx.scalar(total.where(LedgerEntry.ledger_account == ledger_account)))
