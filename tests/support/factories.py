"""Rows for tests, made by the verbs that make them in production. Every name is new, so that tests do not meet."""

from typing import Any

from sqlalchemy import Row, update

from core import catalog, fleet, predictions
from core.catalog import Runnable
from core.database import Database, Transaction
from core.fleet import NodeReport
from core.ids import new_id
from core.lifecycle import InstanceStatus
from core.people import accounts
from core.predictions import Request
from core.tables import Version

LEASE_SECONDS = 600.0
PRICE_NANOS_PER_SECOND = 725_000
TEXT_OUTPUT = {"components": {"schemas": {"Output": {"type": "string"}}}}


async def add_account(tx: Transaction) -> Row:
    name = f"a-{new_id()}"
    return await accounts.ensure(tx, name, name)


async def add_version(
    tx: Transaction, *, sku: str | None = None, gpu_model: str | None = None, gpu_count: int = 0, slots: int = 1
) -> str:
    """The id of a Version that is still to be prepared, of a public Model on a Hardware of its own."""
    sku = sku or f"h-{new_id()}"
    await catalog.put_hardware(tx, sku, sku, PRICE_NANOS_PER_SECOND, gpu_count, gpu_model)
    owner = await add_account(tx)
    model = await catalog.ensure_model(tx, owner.id, "model", sku, visibility="public")
    return await catalog.publish(
        tx,
        model.id,
        "bundle",
        new_id(),
        config={},
        cog_version="0.23.1",
        slots=slots,
        timeout_seconds=60,
        setup_timeout_seconds=60,
    )


async def add_runnable(tx: Transaction, *, slots: int = 1, **hardware: Any) -> Runnable:
    """A Version that is ready."""
    id = await add_version(tx, slots=slots, **hardware)
    await catalog.prepared(tx, id, openapi_schema=TEXT_OUTPUT, cog_version="0.23.1", slots=slots, config={})
    return await catalog.resolve(tx, (await add_account(tx)).id, id)


async def forbid_retry(tx: Transaction, runnable: Runnable) -> None:
    await tx.execute(update(Version).where(Version.id == runnable.version_id).values(allows_retry=False))


async def add_node(
    tx: Transaction,
    *,
    name: str | None = None,
    gpus: list[dict[str, Any]] | None = None,
    max_instances: int = 8,
    lease_seconds: float = LEASE_SECONDS,
) -> Row:
    """One life of a node; the same name again is its next life."""
    report = NodeReport(name or f"n-{new_id()}", gpus or [], ["bundle"], max_instances)
    return await fleet.register_node(tx, report, new_id(), lease_seconds)


async def add_instance(tx: Transaction, node: Row, runnable: Runnable, gpu_uuids: tuple[str, ...] = ()) -> str:
    """The id of an Instance that is ready."""
    id = await fleet.assign(
        tx,
        node_id=node.id,
        target=runnable.target,
        version_id=runnable.version_id,
        hardware_sku=runnable.hardware_sku,
        slots=1,
        gpu_uuids=gpu_uuids,
    )
    await fleet.move_instance(tx, id, InstanceStatus.PENDING, InstanceStatus.STARTING)
    await fleet.move_instance(tx, id, InstanceStatus.STARTING, InstanceStatus.READY)
    return id


async def add_prediction(database: Database, account_id: str, runnable: Runnable, **fields: Any) -> Row:
    """One that waits, committed and queued."""
    async with database.transaction() as tx:
        return await predictions.create(tx, Request(account_id, runnable, {"text": "hello"}, **fields))
