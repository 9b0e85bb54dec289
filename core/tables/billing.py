from datetime import date, datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Json, Moment, Nanos, Table


class UsageRecord(Table):
    """So many seconds, for this cause. Written once; names are copied so that it outlives what it names."""

    __tablename__ = "usage_records"
    __table_args__ = (
        UniqueConstraint("cause_kind", "cause_id"),
        Index(None, "account_id", "ended_at"),
        # The runs of a Model, the latest first.
        Index(None, "model", "ended_at"),
        # How long the latest runs of a Version took, and what they cost.
        Index(None, "version_id", "ended_at"),
        # What the roll-ups are compared with, day by day; and all runs, the latest first.
        Index(None, "day", "ended_at"),
        # What a rule may give back.
        Index("ix_usage_records_failed", "failure_code", "day", postgresql_where=text("failure_code IS NOT NULL")),
    )

    id: Mapped[Id]
    cause_kind: Mapped[str]
    """`prediction`, or `instance`: a stretch of its time."""
    cause_id: Mapped[str]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    account_name: Mapped[str] = mapped_column(server_default="")
    model: Mapped[str]
    version_id: Mapped[str]
    deployment: Mapped[str | None]
    hardware_sku: Mapped[str]
    token_id: Mapped[str | None]
    tags: Mapped[Json | None]
    phase: Mapped[str] = mapped_column(server_default="active")
    """`setup`, `idle` or `active`."""
    outcome: Mapped[str | None]
    """The terminal status of the prediction."""
    failure_code: Mapped[str | None]
    micros: Mapped[int] = mapped_column(BigInteger)
    """Microseconds by the worker's monotonic clock."""
    price_id: Mapped[str | None]
    price_nanos_per_second: Mapped[Nanos]
    units: Mapped[Json | None]
    """[{metric, quantity, price_id, nanos_per_unit, amount_nanos}] where its Model is priced per unit."""
    amount_nanos: Mapped[Nanos]
    day: Mapped[date]
    """UTC day on which it ended."""
    started_at: Mapped[Moment | None]
    ended_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]


class LedgerEntry(Table):
    """One side of a transfer. The entries of a transaction sum to zero; the database refuses update and delete."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        # The lock on charging twice: a usage record is one transaction, and that has one side in each ledger account.
        UniqueConstraint("transaction_id", "ledger_account"),
        Index(None, "ledger_account", "created_at"),
        Index("ix_ledger_entries_corrects", "corrects", postgresql_where=text("corrects IS NOT NULL")),
        # What people did, and what was put right: few among the charges.
        Index("ix_ledger_entries_kind", "kind", "created_at", postgresql_where=text("kind <> 'usage'")),
    )

    id: Mapped[Id]
    transaction_id: Mapped[str]
    kind: Mapped[str]
    ledger_account: Mapped[str]
    amount_nanos: Mapped[Nanos]
    usage_record_id: Mapped[str | None] = mapped_column(ForeignKey("usage_records.id"))
    corrects: Mapped[str | None]
    """The transaction that this one puts right."""
    actor: Mapped[str | None]
    """Who moved it by hand: a username, or the name of a rule."""
    reason: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class Price(Table):
    """What a unit costs from a moment on. Append only: a later row takes over, and what ran before keeps its own."""

    __tablename__ = "prices"
    __table_args__ = (Index(None, "kind", "subject", "metric", "effective_from"),)

    id: Mapped[Id]
    kind: Mapped[str]
    """`hardware`: by the second. `model`: by the unit of a metric. `cost`: what Hardware costs its operator."""
    subject: Mapped[str]
    """A SKU, or `owner/name`."""
    metric: Mapped[str] = mapped_column(server_default="second")
    """`second`, `hour` (of a cost), or the name under which the model counts what it made."""
    account_id: Mapped[str | None] = mapped_column(ForeignKey("accounts.id"))
    """For this Account alone, instead of the price for everybody."""
    nanos_per_unit: Mapped[Nanos | None]
    """None: from then on there is none, and what stands behind it counts again."""
    free_units: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """So many a month cost nothing."""
    steps: Mapped[Json] = mapped_column(server_default=text("'[]'"))
    """[{above, nanos_per_unit}]: cheaper beyond so many units in a month."""
    effective_from: Mapped[Moment]
    created_by: Mapped[str]
    reason: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class Volume(Table):
    """How much of a price an Account has used in a month: what steps and free units are counted by."""

    __tablename__ = "volumes"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    price_id: Mapped[str] = mapped_column(ForeignKey("prices.id"), primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    units: Mapped[int] = mapped_column(BigInteger)
    list_nanos: Mapped[Nanos]
    """What they were charged when they ended."""
    discount_nanos: Mapped[Nanos]
    """What of that was given back."""


class UsageHour(Table):
    """Usage records summed up, so that pages and exports need not read millions; `''` where a record has none."""

    __tablename__ = "usage_hours"
    __table_args__ = (Index(None, "account_id", "hour"),)

    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(primary_key=True)
    hardware_sku: Mapped[str] = mapped_column(primary_key=True)
    token_id: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger)
    micros: Mapped[int] = mapped_column(BigInteger)
    amount_nanos: Mapped[Nanos]
    cost_nanos: Mapped[Nanos]
    """What its Hardware cost the operator meanwhile."""


class UsageDay(Table):
    """As `UsageHour`, for the pages that look at months: fewer keys, and far fewer rows."""

    __tablename__ = "usage_days"
    __table_args__ = (Index(None, "account_id", "day"),)

    day: Mapped[date] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str] = mapped_column(primary_key=True)
    hardware_sku: Mapped[str] = mapped_column(primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger)
    micros: Mapped[int] = mapped_column(BigInteger)
    amount_nanos: Mapped[Nanos]
    cost_nanos: Mapped[Nanos]


class UsageTag(Table):
    """As `UsageDay`, once for each tag a record carries."""

    __tablename__ = "usage_tags"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    runs: Mapped[int] = mapped_column(BigInteger)
    micros: Mapped[int] = mapped_column(BigInteger)
    amount_nanos: Mapped[Nanos]
