from datetime import date

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Json, Moment, Nanos, Table


class BillingProfile(Table):
    """What stands on an Account's invoices, and how its numbers and months are written."""

    __tablename__ = "billing_profiles"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    name: Mapped[str] = mapped_column(server_default="")
    address: Mapped[str] = mapped_column(server_default="")
    email: Mapped[str] = mapped_column(server_default="")
    tax_id: Mapped[str] = mapped_column(server_default="")
    tax_name: Mapped[str] = mapped_column(server_default="")
    """`VAT`; empty: no tax line."""
    tax_parts_per_million: Mapped[int] = mapped_column(server_default="0")
    locale: Mapped[str] = mapped_column(server_default="en_US")
    timezone: Mapped[str] = mapped_column(server_default="UTC")


class Invoice(Table):
    """What an Account used in a month, or a credit note that corrects that. Frozen once issued, by a trigger."""

    __tablename__ = "invoices"
    __table_args__ = (
        # A month is invoiced once, however often its job runs.
        Index(
            "uq_invoices_account_id_month",
            "account_id",
            "month",
            unique=True,
            postgresql_where=text("kind = 'invoice'"),
        ),
        Index(None, "account_id", "created_at"),
    )

    id: Mapped[Id]
    kind: Mapped[str]
    """`invoice` or `credit_note`."""
    number: Mapped[str | None] = mapped_column(unique=True)
    """Given when it is issued, without gaps."""
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    corrects_id: Mapped[str | None] = mapped_column(ForeignKey("invoices.id"))
    """Of a credit note: its invoice."""
    month: Mapped[date]
    """Its first day, in the Account's time zone."""
    period_start: Mapped[Moment]
    period_end: Mapped[Moment]
    status: Mapped[str]
    """`draft` or `issued`."""
    document: Mapped[Json]
    """Seller, buyer, lines and totals as they were when it was issued."""
    subtotal_nanos: Mapped[Nanos]
    tax_nanos: Mapped[Nanos]
    total_nanos: Mapped[Nanos]
    pdf: Mapped[str | None]
    """Where the rendered file lies in the store."""
    created_at: Mapped[CreatedAt]
    issued_at: Mapped[Moment | None]


class InvoiceSeries(Table):
    """The last number given in a series; locked while the next one is."""

    __tablename__ = "invoice_series"

    series: Mapped[str] = mapped_column(primary_key=True)
    last_number: Mapped[int]
