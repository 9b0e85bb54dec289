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
    """[{uuid, name, memory_bytes, healthy, reason}] as NVML reports them."""
    artifact_kinds: Mapped[list[str]] = mapped_column(ARRAY(Text))
    max_instances: Mapped[int]
    lease_expires_at: Mapped[Moment]
    is_cordoned: Mapped[bool] = mapped_column(server_default="false")
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
    )

    id: Mapped[Id]
    target: Mapped[str]
    version_id: Mapped[str] = mapped_column(ForeignKey("versions.id"))
    hardware_sku: Mapped[str]
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    gpu_uuids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    slots: Mapped[int]
    is_wanted: Mapped[bool] = mapped_column(server_default="true")
    status: Mapped[str]
    reason: Mapped[str | None]
    setup_logs: Mapped[str] = mapped_column(server_default="")
    setup_seconds: Mapped[float | None]
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
