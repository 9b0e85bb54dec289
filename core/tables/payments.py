from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Moment, Nanos, Table


class TopUp(Table):
    """Money on its way into a wallet through a payment provider: `pending`, then `succeeded`, `failed` or `expired`."""

    __tablename__ = "top_ups"
    __table_args__ = (
        UniqueConstraint("provider", "reference"),
        Index(None, "account_id", "created_at"),
        Index("ix_top_ups_pending", "created_at", postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[Id]
    """Also the id of the credit it becomes."""
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    """`checkout`: its owner pays on the provider's page. `recharge`: the saved method pays by itself."""
    amount_nanos: Mapped[Nanos]
    status: Mapped[str]
    provider: Mapped[str]
    reference: Mapped[str | None]
    """The provider's id of the payment."""
    failure: Mapped[str | None]
    actor: Mapped[str]
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[Moment | None]


class PaymentMethod(Table):
    """How an Account pays, and when by itself. The provider keeps the card; here is only what it is called there."""

    __tablename__ = "payment_methods"

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    provider: Mapped[str]
    customer: Mapped[str]
    """The provider's id of the customer."""
    method: Mapped[str | None]
    """The provider's id of the saved method."""
    label: Mapped[str | None]
    """`visa 4242`."""
    recharge_below_nanos: Mapped[Nanos | None]
    recharge_to_nanos: Mapped[Nanos | None]
    paused_until: Mapped[Moment | None]
    """After a decline it is not tried again before this."""
    created_at: Mapped[CreatedAt]


class PaymentEvent(Table):
    """What a provider has told us, once each."""

    __tablename__ = "payment_events"

    provider: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    created_at: Mapped[CreatedAt]
