from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, DateTime, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Json, Moment, Nanos, Table


class Node(Table):
    """A machine that runs `worker node`. One row for its whole existence, one `boot_id` for each of its lives."""

    __tablename__ = "nodes"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    boot_id: Mapped[str]
    gpus: Mapped[Json]
    """Its devices, MIG slices among them, as `worker/gpus.py` reports them."""
    artifact_kinds: Mapped[list[str]] = mapped_column(ARRAY(Text))
    artifacts: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    """Images and bundles that are there, ready to be started."""
    max_instances: Mapped[int]
    labels: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    """{name: value} that a Version may ask for."""
    shares_gpus: Mapped[bool] = mapped_column(server_default="false")
    """Whether Instances whose measured peaks fit together may share a GPU here, whatever their Versions."""
    lease_expires_at: Mapped[Moment]
    reported_at: Mapped[Moment | None]
    clock_offset_seconds: Mapped[float | None]
    """By how much its clock is ahead of the database's; nothing depends on it."""
    is_cordoned: Mapped[bool] = mapped_column(server_default="false")
    """It gets no new Instances."""
    drain_deadline_at: Mapped[Moment | None]
    """It is being emptied: what it runs may finish until then."""
    created_at: Mapped[CreatedAt]


class Instance(Table):
    """One running container of a Version. The scheduler writes `is_wanted`, the node writes `status`."""

    __tablename__ = "instances"
    __table_args__ = (
        Index(
            "ix_instances_live",
            "node_id",
            postgresql_where=text("status NOT IN ('stopped', 'failed')"),
        ),
        Index("ix_instances_version_id_created_at", "version_id", "created_at"),
        Index("ix_instances_held", "owner_id", postgresql_where=text("held_nanos > 0")),
        Index(
            "ix_instances_setup_logs",
            "ended_at",
            postgresql_where=text("setup_logs <> '' AND ended_at IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    target: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    hardware_sku: Mapped[str]
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    gpu_uuids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    slots: Mapped[int]
    is_wanted: Mapped[bool] = mapped_column(server_default="true")
    drain_deadline_at: Mapped[Moment | None]
    """No longer wanted, it may finish what it runs until then; None: however long that takes."""
    shares_gpu: Mapped[bool] = mapped_column(server_default="false")
    """Whether others may hold its GPUs, too."""
    reserved_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Memory it was given on each of its GPUs; None: all of it."""
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """The most it was seen to use on one of them."""
    status: Mapped[str]
    reason: Mapped[str | None]
    setup_logs: Mapped[str] = mapped_column(server_default="")
    """Of its last boot, live while that goes on."""
    pull_seconds: Mapped[float | None]
    """Its boot, phase by phase, each after the one before: the artifact is made ready, the container is made,"""
    create_seconds: Mapped[float | None]
    boot_seconds: Mapped[float | None]
    """its server comes up,"""
    setup_seconds: Mapped[float | None]
    """and the model's own imports and setup run."""
    created_at: Mapped[CreatedAt]
    ready_at: Mapped[Moment | None]
    last_active_at: Mapped[Moment | None]
    """When a prediction last ended or was running; idling is counted from here."""
    ended_at: Mapped[Moment | None]

    model: Mapped[str] = mapped_column(server_default="")
    """`owner/name`, copied for its usage records."""
    deployment: Mapped[str | None]
    owner_id: Mapped[str | None]
    """Whose Deployment or Model it serves."""
    bills_time: Mapped[bool] = mapped_column(server_default="false")
    """Whether its owner pays for its time, or callers for their predictions."""
    held_nanos: Mapped[Nanos] = mapped_column(server_default="0")
    """Set aside in its owner's wallet."""
    setup_micros: Mapped[int] = mapped_column(BigInteger, server_default="0")
    idle_micros: Mapped[int] = mapped_column(BigInteger, server_default="0")
    active_micros: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """By its node's monotonic clock, as of the last report."""


class InstanceTime(Table):
    """Time of an Instance that no usage record has yet: per hour, phase and price. The meter sweep takes it off."""

    __tablename__ = "instance_times"

    instance_id: Mapped[str] = mapped_column(ForeignKey("instances.id"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    phase: Mapped[str] = mapped_column(primary_key=True)
    price_id: Mapped[str] = mapped_column(primary_key=True)
    price_nanos_per_second: Mapped[Nanos]
    from_micros: Mapped[int] = mapped_column(BigInteger)
    """The Instance's counter of that phase when this row began: what makes it one of a kind, whatever clocks say."""
    micros: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[Moment]
    """When it was last added to."""


class CapacityHour(Table):
    """How long a Node's devices were there to be used."""

    __tablename__ = "capacity_hours"

    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    hardware_sku: Mapped[str] = mapped_column(primary_key=True)
    devices: Mapped[int]
    micros: Mapped[int] = mapped_column(BigInteger)
    """Of all its devices together."""
