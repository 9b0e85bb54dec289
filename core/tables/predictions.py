from sqlalchemy import ARRAY, BigInteger, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Json, Moment, Nanos, Table


class Prediction(Table):
    """One run of a Version on one input."""

    __tablename__ = "predictions"
    __table_args__ = (
        Index(None, "account_id", text("created_at DESC"), text("id DESC")),
        # What the sweeps and the scheduler look at: as small as what is live, whatever has ended.
        Index("ix_predictions_live", "target", "created_at", postgresql_where=text("completed_at IS NULL")),
        Index(
            "ix_predictions_deadline",
            "deadline_at",
            postgresql_where=text("completed_at IS NULL AND deadline_at IS NOT NULL"),
        ),
        # What the purge looks at. Each source has its own retention: what is kept for ever is in nobody's way.
        Index(
            "ix_predictions_kept",
            "source",
            "completed_at",
            postgresql_where=text("completed_at IS NOT NULL AND NOT data_removed"),
        ),
        # What a deleted Version leaves behind.
        Index(None, "version_id", "completed_at"),
        Index("ix_predictions_web", "account_id", "created_at", postgresql_where=text("source = 'web'")),
        Index("ix_predictions_cache_key", "account_id", "cache_key", postgresql_where=text("cache_key IS NOT NULL")),
        Index("ix_predictions_cached_from", "cached_from", postgresql_where=text("cached_from IS NOT NULL")),
        # Rows are updated two or three times in their life: leave room for that on their page.
        {"postgresql_with": {"fillfactor": 80}},
    )

    id: Mapped[Id]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    model: Mapped[str]
    """`owner/name` as it was, so that the row outlives the Model."""
    version_id: Mapped[str]
    target: Mapped[str]
    hardware_sku: Mapped[str]
    deployment: Mapped[str | None]
    """`owner/name` of the Deployment it was sent to."""
    source: Mapped[str] = mapped_column(server_default="api")
    priority: Mapped[str] = mapped_column(server_default="normal")
    """`low` is taken when nothing `normal` waits for its target."""
    status: Mapped[str]
    failure_code: Mapped[str | None]
    input: Mapped[Json]
    secret_inputs: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """Names of inputs that are shown to nobody."""
    output: Mapped[Json | None]
    error: Mapped[str | None]
    logs: Mapped[str] = mapped_column(server_default="")
    metrics: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    queue_reason: Mapped[str | None]
    stream_kind: Mapped[str | None]
    """`text` or `files`, as far as its Version's schema was known when it was created; None: nothing to listen to."""
    token_id: Mapped[str | None]
    tags: Mapped[Json | None]
    """{name: value}, by which its Account tells its costs apart."""
    webhook_url: Mapped[str | None]
    webhook_events: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    cache_key: Mapped[bytes | None]
    """Hash of Version and input, where its result may serve an equal request."""
    cached_from: Mapped[str | None]
    """The prediction whose result this one was given instead of running."""

    attempt: Mapped[int] = mapped_column(server_default="0")
    """Counts starts. Every write of a runner names the attempt it belongs to, so a late one changes nothing."""
    instance_id: Mapped[str | None]
    node_boot_id: Mapped[str | None]
    """The life of the node that holds it; the lease of that life fences it."""
    held_nanos: Mapped[Nanos | None]
    """Set aside for it in its Account's wallet; None: nothing was to be."""
    price_id: Mapped[str | None]
    price_nanos_per_second: Mapped[Nanos | None]
    """Frozen when it started, as are `price_id` and `unit_prices`. 0 where its Instance's time is billed instead."""
    unit_prices: Mapped[Json | None]
    """{metric: {id, nanos}}; None: it is priced by the second."""
    micros: Mapped[int | None] = mapped_column(BigInteger)
    """How long it ran; None: nothing was measured, and there is no usage record."""
    pull_seconds: Mapped[float | None]
    """How long it waited for each phase of its container's boot; 0 if that was there."""
    create_seconds: Mapped[float | None]
    boot_seconds: Mapped[float | None]
    setup_seconds: Mapped[float | None]

    created_at: Mapped[CreatedAt]
    started_at: Mapped[Moment | None]
    completed_at: Mapped[Moment | None]
    deadline_at: Mapped[Moment | None]
    cancel_requested_at: Mapped[Moment | None]
    data_removed: Mapped[bool] = mapped_column(server_default="false")
