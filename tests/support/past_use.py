"""What Accounts used in months that are over, as rows: only time could make them otherwise. With their charges."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, update

from core.database import Transaction
from core.ids import new_id
from core.money import folding, ledger
from core.money.ledger import Kind
from core.tables import LedgerEntry, UsageRecord, Wallet, WalletPosting

PRICE = 1_000_000
CENT = 10_000_000
DOLLAR = 100 * CENT
_SOURCE = {Kind.REFUND: ledger.REVENUE, Kind.DISCOUNT: ledger.DISCOUNTS, Kind.WAIVER: ledger.WAIVED}


async def use(
    tx: Transaction,
    account: Row,
    ended_at: datetime,
    amount_nanos: int = DOLLAR,
    *,
    waived_nanos: int = 0,
    is_folded: bool = True,
    **fields: Any,
) -> str:
    """One usage record, charged when it ended. Returns its id."""
    cause = fields.pop("cause_kind", "prediction")
    id = f"{cause}:{new_id()}"
    values = {
        "id": id,
        "cause_kind": cause,
        "cause_id": id.partition(":")[2],
        "account_id": account.id,
        "account_name": account.username,
        "model": "acme/model",
        "version_id": "v" * 64,
        "hardware_sku": "a-gpu",
        "micros": 1_000_000,
        "price_id": "a price",
        "price_nanos_per_second": PRICE,
        "amount_nanos": amount_nanos,
        "day": ended_at.date(),
        "ended_at": ended_at,
        "created_at": ended_at,
        **fields,
    }
    await tx.execute(insert(UsageRecord).values(values))
    await _move(tx, account, id, Kind.USAGE, ledger.REVENUE, -amount_nanos, ended_at, usage_record_id=id)
    if waived_nanos:
        await _move(tx, account, f"{id}:waiver", Kind.WAIVER, ledger.WAIVED, waived_nanos, ended_at, usage_record_id=id)
    posting = {"account_id": account.id, "amount_nanos": waived_nanos - amount_nanos, "released_nanos": 0}
    await tx.execute(insert(WalletPosting).values(**posting, usage_record_id=id))
    if is_folded:
        await folding.fold(tx, account.id)
    return id


async def give_back(
    tx: Transaction, account: Row, at: datetime, amount_nanos: int, kind: Kind = Kind.REFUND, reason: str = "test"
) -> None:
    await _move(tx, account, new_id(), kind, _SOURCE[kind], amount_nanos, at, reason=reason)
    await _add(tx, account, amount_nanos)


async def pay(tx: Transaction, account: Row, at: datetime, amount_nanos: int) -> None:
    await _move(tx, account, new_id(), Kind.TOP_UP, ledger.cash("by_hand"), amount_nanos, at)
    await _add(tx, account, amount_nanos)


async def _add(tx: Transaction, account: Row, nanos: int) -> None:
    own = update(Wallet).where(Wallet.account_id == account.id)
    await tx.execute(own.values(balance_nanos=Wallet.balance_nanos + nanos))


async def _move(
    tx: Transaction, account: Row, id: str, kind: Kind, other: str, nanos: int, at: datetime, **fields: Any
) -> None:
    common = {"transaction_id": id, "kind": kind.value, "created_at": at, **fields}
    own = {"id": f"{id}:own", "ledger_account": ledger.account(account.id), "amount_nanos": nanos}
    its = {"id": f"{id}:other", "ledger_account": other, "amount_nanos": -nanos}
    await tx.execute(insert(LedgerEntry), [own | common, its | common])
