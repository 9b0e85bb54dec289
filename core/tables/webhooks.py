from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Json, Moment, Table


class WebhookDelivery(Table):
    """One event owed to one URL."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("prediction_id", "event"),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("status = 'pending'")),
        Index(None, "account_id", "created_at"),
        # The few that somebody looks for among the many that arrived.
        Index(
            "ix_webhook_deliveries_failed",
            "account_id",
            "created_at",
            postgresql_where=text("status <> 'delivered'"),
        ),
    )

    id: Mapped[Id]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    prediction_id: Mapped[str | None] = mapped_column(ForeignKey("predictions.id"))
    body: Mapped[Json | None]
    """What is sent, where it is about no prediction."""
    event: Mapped[str]
    url: Mapped[str] = mapped_column(Text)
    status: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="0")
    attempts_before_replay: Mapped[int] = mapped_column(server_default="0")
    """Retries are counted anew from the last replay."""
    next_attempt_at: Mapped[Moment]
    created_at: Mapped[CreatedAt]
    delivered_at: Mapped[Moment | None]


class WebhookAttempt(Table):
    """One HTTP try: a status or an error, and both where it was redirected."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[str] = mapped_column(ForeignKey("webhook_deliveries.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    http_status: Mapped[int | None]
    error: Mapped[str | None]
    duration_ms: Mapped[int]
    created_at: Mapped[CreatedAt]
