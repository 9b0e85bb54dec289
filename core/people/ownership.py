"""What owners do with their Models: create, change, delete. Versions come and go in `catalog` and `versions`."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, delete, exists, func, insert, select, update

from core.catalog import get_model, require_hardware
from core.database import Transaction
from core.errors import Conflict, Forbidden
from core.hardware import CPU
from core.ids import new_id
from core.people import audit
from core.tables import Account, Model, Version

MAX_MODELS = 1000
"""Of one account."""


async def get_own_model(tx: Transaction, account_id: str, owner: str, name: str) -> Row:
    """A Model to be changed. Raises `Forbidden` if it is another's, `NotFound` if that is private."""
    row = await get_model(tx, account_id, owner, name)
    if row.owner_id != account_id:
        raise Forbidden(f"{owner}/{name} belongs to {owner}: only {owner} may change it.")
    return row


async def create_model(tx: Transaction, owner: Row, id: str, name: str, hardware_sku: str, **fields: Any) -> Row:
    """The new Model, or the one that has this id already. Raises `ValidationFailed` or `Conflict`."""
    await require_hardware(tx, hardware_sku)
    await one_at_a_time(tx, owner.id)
    taken = await tx.first(select(Model.id).where(Model.owner_id == owner.id, Model.name == name))
    if taken is not None and taken.id != id:
        raise Conflict(f"{owner.username}/{name} exists already: choose another name, or change that one.")
    if taken is None:
        count = await tx.scalar(select(func.count()).where(Model.owner_id == owner.id))
        if count >= MAX_MODELS:
            raise Conflict(f"{owner.username} has {count} models, the most an account may have: delete one first.")
        await tx.execute(insert(Model).values(id=id, owner_id=owner.id, name=name, hardware_sku=hardware_sku, **fields))
        after = {"hardware_sku": hardware_sku, **fields}
        await audit.record(tx, "model.create", f"model:{owner.username}/{name}", account_id=owner.id, after=after)
    return await get_model(tx, owner.id, owner.username, name)


async def one_at_a_time(tx: Transaction, owner_id: str) -> None:
    """So that two at once do not both find a name free, or the last place. Holds nobody up but other creations."""
    await tx.execute(select(Account.id).where(Account.id == owner_id).with_for_update(key_share=True))


async def model_to_publish(tx: Transaction, owner: Row, name: str, hardware_sku: str | None) -> Row:
    """The owner's Model of that name, private if it is new; on `hardware_sku` from now on, if that is given."""
    await one_at_a_time(tx, owner.id)
    # Locked, or the Model might be deleted before it has its Version.
    named = select(Model.id).where(Model.owner_id == owner.id, Model.name == name)
    row = await tx.first(named.with_for_update(key_share=True))
    if row is None:
        return await create_model(tx, owner, new_id(), name, hardware_sku or CPU.sku)
    await change_model(tx, row.id, {"hardware_sku": hardware_sku} if hardware_sku else {})
    return row


async def change_model(tx: Transaction, id: str, fields: Mapping[str, Any]) -> None:
    """Raises `ValidationFailed` for a Hardware that is not there."""
    if "hardware_sku" in fields:
        await require_hardware(tx, fields["hardware_sku"])
    if not fields:
        return
    facts = [getattr(Model, name) for name in fields]
    named = (Account.username, Model.name.label("model_name"), Model.owner_id.label("model_owner_id"))
    before = await tx.one(
        select(*named, *facts)
        .join(Account, Account.id == Model.owner_id)
        .where(Model.id == id)
        .with_for_update(key_share=True, of=Model)
    )
    await tx.execute(update(Model).where(Model.id == id).values(**fields))
    await audit.record_change(
        tx,
        "model.update",
        f"model:{before.username}/{before.model_name}",
        account_id=before.model_owner_id,
        before={name: getattr(before, name) for name in fields},
        after=fields,
    )


async def delete_model(tx: Transaction, account_id: str, owner: str, name: str) -> None:
    """Only one that is private and has no Versions left. What its deleted ones left behind goes with the purge."""
    model = await get_own_model(tx, account_id, owner, name)
    # Locked, or a Version might be published between the question and the end.
    visibility = await tx.scalar(select(Model.visibility).where(Model.id == model.id).with_for_update())
    if visibility == "public":
        raise Conflict(f"{owner}/{name} is public: only a private model can be deleted. Make it private first.")
    if await tx.scalar(select(exists().where(Version.model_id == model.id, Version.deleted_at.is_(None)))):
        raise Conflict(f"{owner}/{name} has versions: delete them first.")
    await tx.execute(delete(Model).where(Model.id == model.id))
    before = {"visibility": model.visibility, "hardware_sku": model.hardware_sku, "description": model.description}
    await audit.record(tx, "model.delete", f"model:{owner}/{name}", account_id=model.owner_id, before=before)
