"""Hardware, Models and what they run: who sees a Model, what a reference stands for, how a Version is published.

What owners do with their Models is in `core/people/ownership.py`, and what is done with single Versions in
`core/versions.py`.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction, one_of, seconds_from_now
from core.errors import InvalidVersion, NotFound, ValidationFailed
from core.ids import new_id
from core.lifecycle import VersionStatus
from core.money import prices
from core.people import audit
from core.redis import SCHEDULER_BELL, ring
from core.tables import Account, Hardware, Model, UsageRecord, Version
from core.usage.metering import PREDICTION


@dataclass(frozen=True, slots=True)
class Runnable:
    """A Version someone may run, with all that creating a prediction needs."""

    version_id: str
    model: str
    hardware_sku: str
    openapi_schema: dict[str, Any] | None
    status: VersionStatus
    caches_results: bool = False
    deployment: str | None = None
    """`owner/name`, where it was asked for by a Deployment's name."""
    deployment_id: str | None = None

    @property
    def target(self) -> str:
        return target(self.version_id, self.hardware_sku, self.deployment_id)


def target(version_id: str, hardware_sku: str, deployment_id: str | None = None) -> str:
    """What predictions wait for: a Version on a Hardware, whoever asks, or that of one Deployment."""
    shared = f"{version_id}@{hardware_sku}"
    return shared if deployment_id is None else f"{shared}@{deployment_id}"


async def put_hardware(
    tx: Transaction, sku: str, name: str, price_nanos_per_second: int, gpu_count: int = 0, gpu_model: str | None = None
) -> None:
    """Adds a Hardware; one that is there already keeps its price, which is the operator's to change."""
    await tx.execute(
        upsert(Hardware)
        .values(sku=sku, name=name, gpu_count=gpu_count, gpu_model=gpu_model)
        .on_conflict_do_nothing(index_elements=["sku"])
    )
    await prices.open_hardware(tx, sku, price_nanos_per_second)


async def list_hardware(tx: Transaction) -> list[Row]:
    return list(await tx.all(select(Hardware).order_by(Hardware.sku)))


async def require_hardware(tx: Transaction, sku: str) -> None:
    """Raises `ValidationFailed` with what there is."""
    skus = [row.sku for row in await list_hardware(tx)]
    if sku not in skus:
        raise ValidationFailed("hardware", f"There is no hardware `{sku}`: choose one of {', '.join(skus)}.")


async def ensure_model(tx: Transaction, owner_id: str, name: str, hardware_sku: str, **fields: Any) -> Row:
    """The Model of that name, made if there is none; `fields` are brought up to date."""
    named = select(Model).where(Model.owner_id == owner_id, Model.name == name)
    values = {"hardware_sku": hardware_sku, **fields}
    before = await tx.first(named)
    await tx.execute(
        upsert(Model)
        .values(id=new_id(), owner_id=owner_id, name=name, **values)
        .on_conflict_do_update(index_elements=["owner_id", "name"], set_=values)
    )
    row = await tx.one(named)
    action, was = ("model.update", before._mapping) if before else ("model.create", {})
    was = {name: value for name, value in was.items() if name in values}
    await audit.record_change(tx, action, await _target(tx, row.id), account_id=owner_id, before=was, after=values)
    return row


async def _target(tx: Transaction, model_id: str) -> str:
    """What the audit log calls a Model."""
    named = select(Account.username, Model.name).join(Model, Model.owner_id == Account.id)
    row = await tx.one(named.where(Model.id == model_id))
    return f"model:{row.username}/{row.name}"


def version_id(model_id: str, artifact_kind: str, artifact: str) -> str:
    return hashlib.sha256(f"{model_id}\n{artifact_kind}\n{artifact}".encode()).hexdigest()


async def publish(
    tx: Transaction,
    model_id: str,
    artifact_kind: str,
    artifact: str,
    *,
    config: dict[str, Any],
    cog_version: str,
    slots: int,
    timeout_seconds: int,
    setup_timeout_seconds: int,
) -> str:
    """Makes the artifact the Model's latest Version and has it prepared. The same one again changes nothing, unless it
    was deleted: then it is back, as a new one, and prepared anew unless it is ready. A new one is placed as the
    latest before it."""
    id = version_id(model_id, artifact_kind, artifact)
    added = await tx.first(
        upsert(Version)
        .values(
            id=id,
            model_id=model_id,
            artifact_kind=artifact_kind,
            artifact=artifact,
            config=config,
            cog_version=cog_version,
            slots=slots,
            timeout_seconds=timeout_seconds,
            setup_timeout_seconds=setup_timeout_seconds,
            status=VersionStatus.PREPARING,
            **await _placing(tx, model_id),
        )
        .on_conflict_do_update(
            index_elements=["id"],
            set_={"deleted_at": None, "created_at": func.now()},
            where=Version.deleted_at.is_not(None),
        )
        .returning(Version.id)
    )
    before = await _set_latest(tx, model_id, id)
    if added is not None:
        await prepare_again(tx, id)
    if added is not None or before.latest_version_id != id:
        was, now = ({"latest_version": version} for version in (before.latest_version_id, id))
        now |= {"artifact_kind": artifact_kind, "artifact": artifact}
        target = await _target(tx, model_id)
        await audit.record(tx, "version.publish", target, account_id=before.owner_id, before=was, after=now)
    return id


async def _placing(tx: Transaction, model_id: str) -> dict[str, Any]:
    """How the Model's latest Version is placed."""
    latest = select(Version.node_labels, Version.is_pinned, Version.shares_gpu)
    row = await tx.first(latest.join(Model, Model.latest_version_id == Version.id).where(Model.id == model_id))
    return row._asdict() if row else {}


async def _set_latest(tx: Transaction, model_id: str, version_id: str) -> Row:
    """The Model as it was."""
    before = await tx.one(select(Model.owner_id, Model.latest_version_id).where(Model.id == model_id))
    created_at = select(Version.created_at).where(Version.id == version_id).scalar_subquery()
    await tx.execute(
        update(Model)
        .where(Model.id == model_id)
        .values(latest_version_id=version_id, latest_version_created_at=created_at)
    )
    return before


async def prepared(
    tx: Transaction, id: str, *, openapi_schema: dict[str, Any], cog_version: str, slots: int, config: dict[str, Any]
) -> None:
    """The Version is ready, and from now on what it is. The scheduler is woken for those who wait for it."""
    await tx.execute(
        update(Version)
        .where(Version.id == id, Version.status != VersionStatus.READY)
        .values(
            status=VersionStatus.READY,
            status_reason=None,
            openapi_schema=openapi_schema,
            cog_version=cog_version,
            slots=slots,
            config=config,
            prepare_lease_expires_at=None,
        )
    )
    tx.after_commit(ring, SCHEDULER_BELL)


async def preparation_failed(tx: Transaction, id: str, reason: str) -> None:
    """The Version cannot run. A Model whose latest it is goes back to the newest that can, if there is one."""
    failed = await tx.execute(
        update(Version)
        .where(Version.id == id, Version.status == VersionStatus.PREPARING)
        .values(status=VersionStatus.FAILED, status_reason=reason, prepare_lease_expires_at=None)
    )
    if failed.rowcount:
        await _fall_back(tx, id)
    tx.after_commit(ring, SCHEDULER_BELL)


async def _fall_back(tx: Transaction, failed_id: str) -> None:
    siblings = select(Version.id, Version.created_at).join(Model, Model.id == Version.model_id)
    usable = siblings.where(
        Model.latest_version_id == failed_id, Version.status == VersionStatus.READY, Version.deleted_at.is_(None)
    )
    newest = await tx.first(usable.order_by(Version.created_at.desc()).limit(1))
    if newest is not None:
        latest = {"latest_version_id": newest.id, "latest_version_created_at": newest.created_at}
        await tx.execute(update(Model).where(Model.latest_version_id == failed_id).values(**latest))


async def prepare_again(tx: Transaction, id: str) -> None:
    """Has a Version that is not ready prepared at once: what was missing may be there now, who held it may be gone."""
    again = await tx.execute(
        update(Version)
        .where(Version.id == id, Version.status != VersionStatus.READY)
        .values(status=VersionStatus.PREPARING, status_reason=None, prepare_lease_expires_at=None)
    )
    if again.rowcount:
        tx.after_commit(ring, SCHEDULER_BELL)


async def lease_preparation(tx: Transaction, id: str, seconds: float) -> bool:
    """Holds a Version that is still to be prepared; False if another job holds it, or it is done."""
    leased = await tx.execute(
        update(Version)
        .where(
            Version.id == id,
            Version.status == VersionStatus.PREPARING,
            or_(Version.prepare_lease_expires_at.is_(None), Version.prepare_lease_expires_at < func.now()),
        )
        .values(prepare_lease_expires_at=seconds_from_now(seconds))
    )
    return bool(leased.rowcount)


async def renew_preparation(tx: Transaction, id: str, seconds: float) -> None:
    await tx.execute(
        update(Version)
        .where(Version.id == id, Version.status == VersionStatus.PREPARING)
        .values(prepare_lease_expires_at=seconds_from_now(seconds))
    )


async def to_prepare(tx: Transaction) -> list[str]:
    """Versions that nobody is preparing, oldest first."""
    rows = await tx.all(
        select(Version.id)
        .where(
            Version.status == VersionStatus.PREPARING,
            or_(Version.prepare_lease_expires_at.is_(None), Version.prepare_lease_expires_at < func.now()),
        )
        .order_by(Version.created_at, Version.id)
    )
    return [row.id for row in rows]


async def get_version(tx: Transaction, id: str) -> Row | None:
    """A Version as the platform sees it, whoever owns it, deleted or not."""
    return await tx.first(select(Version).where(Version.id == id))


#: Long, and of no use to whoever finds a place for it.
_LONG = ("config", "openapi_schema")
_TRAITS = tuple(column for column in Version.__table__.c if column.name not in _LONG)


async def version_traits(tx: Transaction, ids: Collection[str]) -> dict[str, Row]:
    """What is to be known of each to give it a place, deleted or not, without what makes a row long."""
    return {row.id: row for row in await tx.all(select(*_TRAITS).where(one_of(Version.id, ids)))}


async def versions_by_id(tx: Transaction, ids: list[str]) -> dict[str, Row]:
    """Each with the owner of its Model, if it has one."""
    statement = select(*Version.__table__.c, Model.owner_id).join(Model, Model.id == Version.model_id, isouter=True)
    return {row.id: row for row in await tx.all(statement.where(one_of(Version.id, ids)))}


# --- Models -----------------------------------------------------------------------------------------------------------


class ModelOrder(StrEnum):
    """What Models are sorted by; one without a Version stands where it was created itself."""

    LATEST_VERSION = "latest_version_created_at"
    MODEL = "model_created_at"


_MOMENTS = {
    ModelOrder.LATEST_VERSION: func.coalesce(Model.latest_version_created_at, Model.created_at),
    ModelOrder.MODEL: Model.created_at,
}
#: Long, and not looked at where a Model is shown.
_APART = ("readme", "searchable")
_COLUMNS = (
    *(column for column in Model.__table__.c if column.name not in _APART),
    Account.username.label("owner"),
)


def is_visible(account_id: str | ColumnElement[str] | None) -> ColumnElement[bool]:
    """What is private is found by its owner only; no account sees what is public."""
    public = Model.visibility == "public"
    return public if account_id is None else or_(public, Model.owner_id == account_id)


def visible(statement: Select, account_id: str | None) -> Select:
    return statement.where(is_visible(account_id))


def visible_models(account_id: str | None, *more: Any) -> Select:
    """Models with their `owner`, and whatever else is to be read with them."""
    return visible(select(*_COLUMNS, *more).join(Account, Account.id == Model.owner_id), account_id)


async def get_model(tx: Transaction, account_id: str, owner: str, name: str) -> Row:
    row = await tx.first(visible_models(account_id).where(Account.username == owner, Model.name == name))
    if row is None:
        raise NotFound("The requested model could not be found.")
    return row


async def get_readme(tx: Transaction, account_id: str, owner: str, name: str) -> str:
    model = await get_model(tx, account_id, owner, name)
    readme = await tx.scalar(select(Model.readme).where(Model.id == model.id))
    if readme is None:
        raise NotFound(f"{owner}/{name} has no README.")
    return readme


async def list_models(
    tx: Transaction,
    account_id: str,
    after: tuple | None,
    limit: int,
    order: ModelOrder = ModelOrder.LATEST_VERSION,
    ascending: bool = False,
) -> list[Row]:
    """Sorted by `sorted_at`; `after` is the (sorted_at, id) of the last one seen."""
    moment = _MOMENTS[order]
    statement = visible_models(account_id, moment.label("sorted_at"))
    if after is not None:
        position = tuple_(moment, Model.id)
        statement = statement.where(position > after if ascending else position < after)
    keys = (moment, Model.id) if ascending else (moment.desc(), Model.id.desc())
    return list(await tx.all(statement.order_by(*keys).limit(limit)))


async def run_counts(tx: Transaction, models: list[str]) -> dict[str, int]:
    """How many charged runs each of these Models (`owner/name`) has had; those without any are not named.

    Counts records, 0.1 s for a million of them: who asks often remembers the answer.
    """
    counted = select(UsageRecord.model, func.count().label("runs")).where(
        UsageRecord.model.in_(models), UsageRecord.cause_kind == PREDICTION
    )
    return {row.model: row.runs for row in await tx.all(counted.group_by(UsageRecord.model))}


# --- what a reference stands for --------------------------------------------------------------------------------------


async def resolve(tx: Transaction, account_id: str, reference: str) -> Runnable:
    """A Version from `<64 hex>`, `owner/name:<64 hex>` or `owner/name` (its latest). Raises `InvalidVersion`."""
    model, _, id = reference.rpartition(":") if "/" in reference and ":" in reference else ("", "", reference)
    statement = (
        select(
            Version.id,
            Version.openapi_schema,
            Version.status,
            Version.caches_results,
            Model.hardware_sku,
            (Account.username + "/" + Model.name).label("model"),
        )
        .join(Model, Model.id == Version.model_id)
        .join(Account, Account.id == Model.owner_id)
    )
    if model or "/" in id:
        owner, _, name = (model or id).partition("/")
        statement = statement.where(Account.username == owner, Model.name == name)
    statement = statement.where(
        Version.id == (Model.latest_version_id if "/" in id else id), Version.deleted_at.is_(None)
    )
    row = await tx.first(visible(statement, account_id))
    if row is None:
        raise InvalidVersion()
    return Runnable(
        row.id, row.model, row.hardware_sku, row.openapi_schema, VersionStatus(row.status), row.caches_results
    )
