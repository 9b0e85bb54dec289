"""Collections: Models that an admin put together under one heading. Each reader finds in them what they may see."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from core.catalog import visible, visible_models
from core.database import Transaction
from core.errors import NotFound, ValidationFailed
from core.people import audit
from core.tables import Account, Collection, CollectionModel, Model

_MISSING = "The requested collection could not be found."
_MODEL_NAME = Account.username + "/" + Model.name


@dataclass(frozen=True, slots=True)
class NewCollection:
    """`models`: `owner/name` of each, in the order they are shown in."""

    slug: str
    name: str
    description: str
    full_description: str | None
    models: list[str]


async def list_page(tx: Transaction, before: tuple | None, limit: int) -> list[Row]:
    """Newest first; `before` is the (created_at, slug) of the last one seen. The slug is `id` as well."""
    statement = select(*Collection.__table__.c, Collection.slug.label("id"))
    if before is not None:
        statement = statement.where(tuple_(Collection.created_at, Collection.slug) < before)
    return list(await tx.all(statement.order_by(Collection.created_at.desc(), Collection.slug.desc()).limit(limit)))


async def get(tx: Transaction, slug: str) -> Row:
    row = await tx.first(select(*Collection.__table__.c).where(Collection.slug == slug))
    if row is None:
        raise NotFound(_MISSING)
    return row


async def models_of(tx: Transaction, account_id: str, slug: str) -> list[Row]:
    """Those that the account may see, in their order."""
    inside = visible_models(account_id).join(CollectionModel, CollectionModel.model_id == Model.id)
    return list(await tx.all(inside.where(CollectionModel.slug == slug).order_by(CollectionModel.position)))


async def put(tx: Transaction, account_id: str, collection: NewCollection) -> None:
    """Makes it, or makes it what is said here. Raises `ValidationFailed` for a Model the account does not see."""
    shown = {
        "name": collection.name,
        "description": collection.description,
        "full_description": collection.full_description,
    }
    before = await _facts(tx, collection.slug)
    await tx.execute(
        upsert(Collection)
        .values(slug=collection.slug, **shown)
        .on_conflict_do_update(index_elements=["slug"], set_=shown)
    )
    await tx.execute(delete(CollectionModel).where(CollectionModel.slug == collection.slug))
    ids = await _model_ids(tx, account_id, list(dict.fromkeys(collection.models)))
    rows = [{"slug": collection.slug, "model_id": id, "position": position} for position, id in enumerate(ids)]
    if rows:
        await tx.execute(insert(CollectionModel), rows)
    after = await _facts(tx, collection.slug)
    action, target = "collection.update" if before else "collection.create", f"collection:{collection.slug}"
    await audit.record_change(tx, action, target, account_id=None, before=before, after=after)


async def _facts(tx: Transaction, slug: str) -> dict[str, Any]:
    """All of it, whoever sees it; nothing where there is none."""
    row = await tx.first(select(*Collection.__table__.c).where(Collection.slug == slug))
    if row is None:
        return {}
    inside = select(_MODEL_NAME.label("name")).join_from(Model, Account, Account.id == Model.owner_id)
    inside = inside.join(CollectionModel, CollectionModel.model_id == Model.id).where(CollectionModel.slug == slug)
    models = [model.name for model in await tx.all(inside.order_by(CollectionModel.position))]
    said = {"name": row.name, "description": row.description, "full_description": row.full_description}
    return {**said, "models": models}


async def _model_ids(tx: Transaction, account_id: str, names: list[str]) -> list[str]:
    named = select(Model.id, _MODEL_NAME.label("name")).join(Account, Account.id == Model.owner_id)
    found = {row.name: row.id for row in await tx.all(visible(named, account_id).where(_MODEL_NAME.in_(names)))}
    missing = [name for name in names if name not in found]
    if missing:
        raise ValidationFailed("models", f"There is no model {', '.join(missing)}.")
    return [found[name] for name in names]


async def remove(tx: Transaction, slug: str) -> None:
    """The Models stay."""
    before = await _facts(tx, slug)
    removed = await tx.execute(delete(Collection).where(Collection.slug == slug))
    if not removed.rowcount:
        raise NotFound(_MISSING)
    await audit.record(tx, "collection.delete", f"collection:{slug}", before=before)
