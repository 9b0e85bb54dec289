"""Which images and bundles a Node should have at hand, and which it has."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    String,
    cast,
    column,
    exists,
    func,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from core.database import Transaction, seconds_from_now
from core.lifecycle import LIVE_INSTANCE, VersionStatus
from core.tables import Hardware, Instance, Model, Node, Version

#: What nobody has called for as long, and is no Model's latest, is fetched when it is called.
_USED_SECONDS = 7 * 24 * 3600.0


async def wanted(tx: Transaction, node_id: str, limit: int) -> Sequence[Row]:
    """Artifacts of Versions that may run there, newest first: the latest of each Model, and what was used lately."""
    return await tx.all(
        _runnable(
            Version.artifact_kind,
            Version.artifact,
            # Of one artifact all Versions have the same.
            func.jsonb_agg(Version.config, type_=JSONB)[0].label("config"),
            func.max(Version.created_at).label("created_at"),
        )
        .where(Node.id == node_id, or_(Model.latest_version_id == Version.id, _used(Version.id)))
        .group_by(Version.artifact_kind, Version.artifact)
        .order_by(text("created_at DESC"))
        .limit(limit)
    )


async def expected(tx: Transaction, node_id: str, limit: int) -> Sequence[Row]:
    """Versions that an Instance may soon be asked of there, and that have none: those used there last, then the newest.

    Each with the GPUs that its last one had there, and where it had none yet, those that one could have.
    """
    last = (
        select(Instance.gpu_uuids, Instance.created_at)
        .where(Instance.version_id == Version.id, Instance.node_id == node_id, Instance.created_at > _lately())
        .order_by(Instance.created_at.desc())
        .limit(1)
        .lateral("last")
    )
    lives = exists().where(
        Instance.version_id == Version.id, Instance.node_id == node_id, Instance.status.in_(LIVE_INSTANCE)
    )
    columns = (
        *Version.__table__.c,
        Model.owner_id,
        last.c.gpu_uuids,
        Hardware.gpu_count,
        Hardware.gpu_model,
        Node.gpus,
    )
    return await tx.all(
        _runnable(*columns)
        .join(last, true(), isouter=True)
        .where(
            Node.id == node_id,
            Version.artifact == func.any(Node.artifacts),
            or_(Model.latest_version_id == Version.id, last.c.created_at.is_not(None)),
            ~lives,
        )
        .order_by(last.c.created_at.desc().nulls_last(), Version.created_at.desc())
        .limit(limit)
    )


async def report(tx: Transaction, node_id: str, boot_id: str, present: Collection[str]) -> None:
    """Of a life of the node that is not over."""
    await tx.execute(update(Node).where(Node.id == node_id, Node.boot_id == boot_id).values(artifacts=sorted(present)))


def _runnable(*columns: Any) -> Select[Any]:
    """Of Versions, each with the Nodes that may run it."""
    gpus = func.jsonb_array_elements(Node.gpus).table_valued(column("value", JSONB), name="gpu")
    has_gpu = exists(select(text("1")).select_from(gpus).where(gpus.c.value["name"].astext == Hardware.gpu_model))
    labels = Node.labels.op("||")(func.jsonb_build_object(cast("node", String), Node.name))
    return (
        select(*columns)
        .select_from(Version)
        .join(Model, Model.id == Version.model_id)
        .join(Hardware, Hardware.sku == Model.hardware_sku)
        .join(Node, Version.artifact_kind == func.any(Node.artifact_kinds))
        .where(
            Version.status == VersionStatus.READY,
            Version.deleted_at.is_(None),
            or_(Hardware.gpu_model.is_(None), has_gpu),
            Version.node_labels.op("<@")(labels),
        )
    )


def _used(version_id: ColumnElement[str]) -> ColumnElement[bool]:
    return exists().where(Instance.version_id == version_id, Instance.created_at > _lately())


def _lately() -> ColumnElement[datetime]:
    return seconds_from_now(-_USED_SECONDS)
