"""Versions of a Model as their owner and their readers know them: list, get, change, delete.

How one is published and prepared is in `core/catalog.py`; what a deleted one leaves behind, the purge removes.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import Row, and_, exists, func, or_, select, tuple_, update

from core import examples
from core.database import Transaction
from core.errors import Conflict, NotFound
from core.people import audit
from core.redis import SCHEDULER_BELL, ring
from core.tables import Deployment, Model, Prediction, Release, UsageRecord, Version

_NOTHING: Mapping[str, str | None] = MappingProxyType({})


async def list_page(tx: Transaction, model_id: str, before: tuple | None, limit: int) -> list[Row]:
    """Newest first; `before` is the (created_at, id) of the last one seen."""
    statement = select(Version).where(Version.model_id == model_id, Version.deleted_at.is_(None))
    if before is not None:
        statement = statement.where(tuple_(Version.created_at, Version.id) < before)
    return list(await tx.all(statement.order_by(Version.created_at.desc(), Version.id.desc()).limit(limit)))


async def get(tx: Transaction, model_id: str, id: str) -> Row:
    row = await tx.first(select(Version).where(_is(model_id, id)))
    if row is None:
        raise NotFound("The requested version could not be found.")
    return row


async def set_caching(tx: Transaction, model: Row, id: str, caches_results: bool) -> Row:
    """Whether equal inputs give equal outputs, as its owner holds."""
    before = await get(tx, model.id, id)
    await tx.execute(update(Version).where(_is(model.id, id)).values(caches_results=caches_results))
    await audit.record_change(
        tx,
        "version.update",
        _name(model, id),
        account_id=model.owner_id,
        before={"caches_results": before.caches_results},
        after={"caches_results": caches_results},
    )
    return await get(tx, model.id, id)


async def place(
    tx: Transaction,
    model: Row,
    id: str,
    *,
    node_labels: Mapping[str, str | None] = _NOTHING,
    is_pinned: bool | None = None,
    shares_gpu: bool | None = None,
) -> Row:
    """Where its Instances may run and beside whom, as an operator wants it; what is not named stays as it is, and of
    labels those that are None go. Later Versions of the Model take it over."""
    before = await get(tx, model.id, id)
    labels = {key: value for key, value in {**before.node_labels, **node_labels}.items() if value is not None}
    named = {"node_labels": labels, "is_pinned": is_pinned, "shares_gpu": shares_gpu}
    values = {name: value for name, value in named.items() if value is not None}
    was = {name: getattr(before, name) for name in values}
    await tx.execute(update(Version).where(_is(model.id, id)).values(**values))
    name = _name(model, id)
    await audit.record_change(tx, "version.place", name, account_id=model.owner_id, before=was, after=values)
    tx.after_commit(ring, SCHEDULER_BELL)
    return await get(tx, model.id, id)


async def delete(tx: Transaction, model: Row, id: str) -> None:
    """Nobody finds it any more, and its Model falls back to the newest one left. Raises `Conflict` where others may
    miss it."""
    # The Model first, as whoever publishes has it; and locked, so that it does not become public in the meantime.
    locked = select(Model.visibility).where(Model.id == model.id).with_for_update(key_share=True)
    is_public = await tx.scalar(locked) == "public"
    await tx.execute(select(Version.id).where(_is(model.id, id)).with_for_update())
    version = await get(tx, model.id, id)
    if is_public:
        raise Conflict(f"{model.owner}/{model.name} is public, and others may use its versions: make it private first.")
    await _require_unused(tx, model, id)
    await tx.execute(update(Version).where(Version.id == id).values(deleted_at=func.now()))
    await examples.forget_version(tx, model.id, id)
    await _fall_back(tx, model.id, id)
    artifact = {"artifact_kind": version.artifact_kind, "artifact": version.artifact}
    await audit.record(tx, "version.delete", _name(model, id), account_id=model.owner_id, before=artifact)


def _name(model: Row, id: str) -> str:
    return f"version:{model.owner}/{model.name}:{id}"


def _is(model_id: str, id: str) -> object:
    return and_(Version.model_id == model_id, Version.id == id, Version.deleted_at.is_(None))


async def _require_unused(tx: Transaction, model: Row, id: str) -> None:
    charged = exists().where(UsageRecord.version_id == id, UsageRecord.account_id != model.owner_id)
    # What waits, runs, or cost nothing has no record.
    asked = exists().where(Prediction.version_id == id, Prediction.account_id != model.owner_id)
    if await tx.scalar(select(or_(charged, asked))):
        raise Conflict(f"Other accounts have run version {id}: it is kept for them, and cannot be deleted.")
    await _require_undeployed(tx, model, id)


async def _require_undeployed(tx: Transaction, model: Row, id: str) -> None:
    is_own = (Deployment.owner_id == model.owner_id).label("is_own")
    deployment = await tx.first(
        select(Deployment.name, is_own)
        .join(Release, and_(Release.deployment_id == Deployment.id, Release.number == Deployment.release_number))
        .where(Release.version_id == id)
        .order_by(is_own.desc())
        .limit(1)
    )
    if deployment is None:
        return
    # What others call theirs is nobody else's to know.
    if not deployment.is_own:
        raise Conflict(f"Another account's deployment runs version {id}: it is kept for that, and cannot be deleted.")
    raise Conflict(
        f"The deployment {model.owner}/{deployment.name} runs version {id}: "
        "give it another version, or delete it first."
    )


async def _fall_back(tx: Transaction, model_id: str, deleted_id: str) -> None:
    newest = (await list_page(tx, model_id, None, 1) or [None])[0]
    latest = {
        "latest_version_id": newest and newest.id,
        "latest_version_created_at": newest and newest.created_at,
    }
    await tx.execute(update(Model).where(Model.id == model_id, Model.latest_version_id == deleted_id).values(**latest))
