"""Deployments and their numbered Releases: named endpoints that keep a Version on a Hardware within bounds.

Knows what is asked for; how many Instances there are, and where, is the scheduler's. A Release never changes: an update
makes the next one. Only its owner sees a Deployment.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, Select, and_, case, delete, exists, func, insert, or_, select, tuple_, update
from sqlalchemy.orm import aliased

from core import catalog, versions
from core.catalog import Runnable, target
from core.clock import rfc3339
from core.database import Transaction, one_of
from core.errors import Conflict, InvalidVersion, NotFound, ValidationFailed
from core.lifecycle import LIVE_INSTANCE, VersionStatus
from core.people import audit
from core.people.ownership import one_at_a_time
from core.redis import SCHEDULER_BELL, ring
from core.tables import Account, Deployment, Instance, Model, Prediction, Release, Version

MAX_DEPLOYMENTS = 200
"""Of one account: the scheduler looks at all that are to be kept warm, every second."""

#: A Deployment may be deleted once it has been offline and unused for so long, as Replicate has it.
UNUSED = timedelta(minutes=15)
_MINUTES = UNUSED // timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a Release sets. `model`: `owner/name`. No Instances at most: the Deployment is disabled."""

    model: str
    version_id: str
    hardware_sku: str
    min_instances: int
    max_instances: int


# --- reading ----------------------------------------------------------------------------------------------------------

_Owner, _Creator = aliased(Account), aliased(Account)
_CURRENT = and_(Release.deployment_id == Deployment.id, Release.number == Deployment.release_number)
_CONFIGURATION = tuple(field.name for field in fields(Configuration))
_CREATOR = ("type", "username", "name", "avatar_url", "github_url")


def _shown(account_id: str) -> Select:
    """The account's Deployments with their owner, their current Release, and who made that."""
    return (
        select(
            *Deployment.__table__.c,
            _Owner.username.label("owner"),
            Release.number,
            *(getattr(Release, name) for name in _CONFIGURATION),
            Release.created_at.label("released_at"),
            *(getattr(_Creator, name).label(f"creator_{name}") for name in _CREATOR),
        )
        .join(_Owner, _Owner.id == Deployment.owner_id)
        .join(Release, _CURRENT)
        .join(_Creator, _Creator.id == Release.created_by)
        .where(Deployment.owner_id == account_id)
    )


async def get(tx: Transaction, account_id: str, owner: str, name: str) -> Row:
    row = await tx.first(_shown(account_id).where(_Owner.username == owner, Deployment.name == name))
    if row is None:
        raise NotFound("The requested deployment could not be found.")
    return row


async def list_page(tx: Transaction, account_id: str, before: tuple | None, limit: int) -> list[Row]:
    """Newest first; `before` is the (created_at, id) of the last one seen."""
    statement = _shown(account_id)
    if before is not None:
        statement = statement.where(tuple_(Deployment.created_at, Deployment.id) < before)
    return list(await tx.all(statement.order_by(Deployment.created_at.desc(), Deployment.id.desc()).limit(limit)))


async def resolve(tx: Transaction, account_id: str, owner: str, name: str) -> Runnable:
    """What a prediction for this Deployment runs now. Raises `NotFound`, `Conflict` or `InvalidVersion`."""
    deployment = await get(tx, account_id, owner, name)
    full_name = f"{owner}/{name}"
    if not deployment.max_instances:
        raise Conflict(f"{full_name} is disabled, as its max_instances is 0: raise that to run predictions.")
    statement = select(Version).join(Model, Model.id == Version.model_id).where(Version.id == deployment.version_id)
    version = await tx.first(catalog.visible(statement, account_id))
    if version is None:
        raise InvalidVersion()
    return Runnable(
        version.id,
        deployment.model,
        deployment.hardware_sku,
        version.openapi_schema,
        VersionStatus(version.status),
        version.caches_results,
        deployment=full_name,
        deployment_id=deployment.id,
    )


# --- changing ---------------------------------------------------------------------------------------------------------


async def create(tx: Transaction, id: str, owner: Row, name: str, configuration: Configuration) -> Row:
    """Makes it with its first Release. The same id again changes nothing, and returns it as it is now."""
    await one_at_a_time(tx, owner.id)
    taken = await tx.first(select(Deployment.id).where(Deployment.owner_id == owner.id, Deployment.name == name))
    if taken is not None and taken.id != id:
        raise Conflict(f"You have a deployment named {name} already.")
    if taken is None:
        await _require_place(tx, owner)
        await _require_possible(tx, owner.id, configuration)
        await tx.execute(insert(Deployment).values(id=id, owner_id=owner.id, name=name, release_number=1))
        await _release(tx, id, 1, owner.id, configuration)
        target = f"deployment:{owner.username}/{name}"
        await audit.record(tx, "deployment.create", target, account_id=owner.id, after=asdict(configuration))
    return await get(tx, owner.id, owner.username, name)


async def _require_place(tx: Transaction, owner: Row) -> None:
    count = await tx.scalar(select(func.count()).where(Deployment.owner_id == owner.id))
    if count >= MAX_DEPLOYMENTS:
        raise Conflict(f"{owner.username} has {count} deployments, the most an account may have: delete one first.")


async def change(tx: Transaction, account_id: str, owner: str, name: str, changes: dict[str, Any]) -> Row:
    """Makes the next Release, unless nothing changes. `changes` are fields of a `Configuration`."""
    deployment = await _lock(tx, account_id, owner, name)
    old = Configuration(*(getattr(deployment, field) for field in _CONFIGURATION))
    new = replace(old, **changes)
    if new == old:
        return deployment
    await _require_possible(tx, account_id, new, old)
    number = deployment.number + 1
    await _release(tx, deployment.id, number, account_id, new)
    await tx.execute(update(Deployment).where(Deployment.id == deployment.id).values(release_number=number))
    was, now = asdict(old), asdict(new)
    target = f"deployment:{owner}/{name}"
    await audit.record_change(tx, "deployment.update", target, account_id=deployment.owner_id, before=was, after=now)
    return await get(tx, account_id, owner, name)


async def remove(tx: Transaction, account_id: str, owner: str, name: str) -> None:
    """Forgets it and its Releases. Raises `Conflict` while it is online or in use, or was a moment ago."""
    deployment = await _lock(tx, account_id, owner, name)
    use = await _use(tx, deployment)
    if use.is_online:
        raise Conflict(
            f"{owner}/{name} is online: set its min_instances to 0 and let it finish and idle; it can be deleted "
            f"{_MINUTES} minutes after its last container has gone."
        )
    if use.is_recent:
        raise Conflict(
            f"{owner}/{name} was in use within the last {_MINUTES} minutes: it can be deleted from "
            f"{rfc3339(use.unused_at)} on, if nothing uses it until then."
        )
    await tx.execute(delete(Deployment).where(Deployment.id == deployment.id))
    was = {field: getattr(deployment, field) for field in _CONFIGURATION}
    await audit.record(
        tx, "deployment.delete", f"deployment:{owner}/{name}", account_id=deployment.owner_id, before=was
    )


async def _use(tx: Transaction, deployment: Row) -> Row:
    """Whether anything waits for it or may run; and when it will have been left alone for long enough."""
    releases = await tx.all(
        select(Release.version_id, Release.hardware_sku).where(Release.deployment_id == deployment.id).distinct()
    )
    targets = [target(row.version_id, row.hardware_sku, deployment.id) for row in releases]
    # What runs keeps its Instance; so what came lately and never ran is all that Instances do not tell.
    came = select(func.max(Prediction.created_at)).where(
        Prediction.account_id == deployment.owner_id,
        Prediction.created_at > func.now() - UNUSED,
        Prediction.target.in_(targets),
    )
    ids = [row.version_id for row in releases]
    went = select(func.max(Instance.ended_at)).where(Instance.version_id.in_(ids), Instance.target.in_(targets))
    unused_at = func.greatest(came.scalar_subquery(), went.scalar_subquery()) + UNUSED
    waited_for = exists().where(Prediction.completed_at.is_(None), Prediction.target.in_(targets))
    running = exists().where(Instance.status.in_(LIVE_INSTANCE), Instance.target.in_(targets))
    return await tx.one(
        select(
            or_(waited_for, running).label("is_online"),
            func.coalesce(unused_at > func.now(), False).label("is_recent"),
            unused_at.label("unused_at"),
        )
    )


async def _lock(tx: Transaction, account_id: str, owner: str, name: str) -> Row:
    """It, with nobody else changing it until this transaction ends."""
    id = (await get(tx, account_id, owner, name)).id
    await tx.execute(select(Deployment.id).where(Deployment.id == id).with_for_update())
    # Read again: who held the lock may have made another Release, or removed it.
    return await get(tx, account_id, owner, name)


async def _release(tx: Transaction, id: str, number: int, account_id: str, configuration: Configuration) -> None:
    values = asdict(configuration)
    await tx.execute(insert(Release).values(deployment_id=id, number=number, created_by=account_id, **values))
    tx.after_commit(ring, SCHEDULER_BELL)


async def _require_possible(
    tx: Transaction, account_id: str, new: Configuration, old: Configuration | None = None
) -> None:
    """What has not changed since `old` is not asked again: its Model may have become private since."""
    if new.min_instances > new.max_instances:
        problem = f"min_instances ({new.min_instances}) is more than max_instances ({new.max_instances})."
        raise ValidationFailed("min_instances", problem)
    if old is None or new.hardware_sku != old.hardware_sku:
        await catalog.require_hardware(tx, new.hardware_sku)
    if old is not None and new.model != old.model:
        raise ValidationFailed("model", f"This deployment is one of {old.model}: create another for {new.model}.")
    if old is None or new.version_id != old.version_id:
        await _require_version(tx, account_id, new)


async def _require_version(tx: Transaction, account_id: str, configuration: Configuration) -> None:
    owner, _, name = configuration.model.partition("/")
    try:
        model = await catalog.get_model(tx, account_id, owner, name)
    except NotFound:
        raise ValidationFailed("model", f"There is no model `{configuration.model}` that you may run.") from None
    # Locked, so that it is not deleted in the meantime.
    await tx.execute(select(Version.id).where(Version.id == configuration.version_id).with_for_update(read=True))
    try:
        await versions.get(tx, model.id, configuration.version_id)
    except NotFound:
        problem = f"{configuration.model} has no version `{configuration.version_id}`."
        raise ValidationFailed("version", problem) from None


# --- for the scheduler ------------------------------------------------------------------------------------------------


def deployment_of(target: str) -> str | None:
    """The id of the Deployment whose target this is; None: nobody's in particular."""
    return target.split("@")[2] if target.count("@") == 2 else None


async def current_releases(tx: Transaction, ids: Collection[str]) -> list[Row]:
    """What these Deployments, and all that are to be kept warm, are now; those that are gone are not named.

    None is kept warm for an owner who may not run its Model any more: it only ends what it has.
    """
    may_run = func.coalesce(catalog.is_visible(Deployment.owner_id), False)
    return list(
        await tx.all(
            select(
                Release.deployment_id,
                Release.version_id,
                Release.hardware_sku,
                case((may_run, Release.min_instances), else_=0).label("min_instances"),
                Release.max_instances,
                func.extract("epoch", func.now() - Release.created_at).label("age_seconds"),
            )
            .join(Deployment, _CURRENT)
            .join(Version, Version.id == Release.version_id)
            .outerjoin(Model, Model.id == Version.model_id)
            .where(or_(and_(Release.min_instances > 0, may_run), one_of(Deployment.id, ids)))
        )
    )
