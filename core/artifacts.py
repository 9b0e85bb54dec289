"""Which images and bundles a Node should have at hand, and which it has."""

from collections.abc import Collection, Sequence

from sqlalchemy import Row, String, cast, column, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from core.database import Transaction, seconds_from_now
from core.lifecycle import VersionStatus
from core.tables import Hardware, Instance, Model, Node, Version

#: What nobody has called for as long, and is no Model's latest, is fetched when it is called.
_USED_SECONDS = 7 * 24 * 3600.0


async def wanted(tx: Transaction, node_id: str, limit: int) -> Sequence[Row]:
    """Artifacts of Versions that may run there, newest first: the latest of each Model, and what was used lately."""
    gpus = func.jsonb_array_elements(Node.gpus).table_valued(column("value", JSONB), name="gpu")
    has_gpu = exists(select(text("1")).select_from(gpus).where(gpus.c.value["name"].astext == Hardware.gpu_model))
    used = exists().where(Instance.version_id == Version.id, Instance.created_at > seconds_from_now(-_USED_SECONDS))
    labels = Node.labels.op("||")(func.jsonb_build_object(cast("node", String), Node.name))
    return await tx.all(
        select(Version.artifact_kind, Version.artifact, func.max(Version.created_at).label("created_at"))
        .join(Model, Model.id == Version.model_id)
        .join(Hardware, Hardware.sku == Model.hardware_sku)
        .join(Node, Node.id == node_id)
        .where(
            Version.status == VersionStatus.READY,
            Version.deleted_at.is_(None),
            Version.artifact_kind == func.any(Node.artifact_kinds),
            or_(Model.latest_version_id == Version.id, used),
            or_(Hardware.gpu_model.is_(None), has_gpu),
            Version.node_labels.op("<@")(labels),
        )
        .group_by(Version.artifact_kind, Version.artifact)
        .order_by(text("created_at DESC"))
        .limit(limit)
    )


async def report(tx: Transaction, node_id: str, boot_id: str, present: Collection[str]) -> None:
    """Of a life of the node that is not over."""
    await tx.execute(update(Node).where(Node.id == node_id, Node.boot_id == boot_id).values(artifacts=sorted(present)))
