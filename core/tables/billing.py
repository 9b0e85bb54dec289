from datetime import date

from sqlalchemy import BigInteger, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Moment, Nanos, Table


class UsageRecord(Table):
    """So many seconds, for this cause. Written once; names are copied so that it outlives what it names."""

    __tablename__ = "usage_records"
    __table_args__ = (
        UniqueConstraint("cause_kind", "cause_id"),
        Index(None, "account_id", "day"),
        Index(None, "model"),
        # How long the latest runs of a Version took.
        Index(None, "version_id", "ended_at"),
    )

    id: Mapped[Id]
    cause_kind: Mapped[str]
    cause_id: Mapped[str]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    model: Mapped[str]
    version_id: Mapped[str]
    hardware_sku: Mapped[str]
    micros: Mapped[int] = mapped_column(BigInteger)
    """Microseconds by the worker's monotonic clock."""
    price_nanos_per_second: Mapped[Nanos]
    amount_nanos: Mapped[Nanos]
    day: Mapped[date]
    """UTC day on which the run ended."""
    ended_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]


class LedgerEntry(Table):
    """One side of a transfer. The entries of a transaction sum to zero; the database refuses update and delete."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        # The lock on charging twice: a usage record is one transaction, and that has one side in each ledger account.
        UniqueConstraint("transaction_id", "ledger_account"),
        Index(None, "ledger_account", "created_at"),
    )

    id: Mapped[Id]
    transaction_id: Mapped[str]
    kind: Mapped[str]
    ledger_account: Mapped[str]
    amount_nanos: Mapped[Nanos]
    usage_record_id: Mapped[str | None] = mapped_column(ForeignKey("usage_records.id"))
    reason: Mapped[str | None]
    created_at: Mapped[CreatedAt]
