"""Versions: named three ways, seen by those who may, prepared by one at a time, and then never changed."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Row, func, select, text, update

from core import catalog, versions
from core.catalog import version_id
from core.database import Transaction
from core.errors import Conflict, InvalidVersion, NotFound
from core.ids import new_id
from core.lifecycle import VersionStatus
from core.money import prices
from core.people import accounts, ownership
from core.redis import SCHEDULER_BELL
from core.resources import Resources
from core.tables import Account, Model, Version
from tests.support.factories import TEXT_OUTPUT, add_account, add_runnable, add_version

READY = {"openapi_schema": TEXT_OUTPUT, "cog_version": "0.23.1", "slots": 1, "config": {}}


async def test_a_version_is_named_by_its_id_its_model_or_both(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        account, runnable = await add_account(tx), await add_runnable(tx)
        for reference in (runnable.version_id, runnable.model, f"{runnable.model}:{runnable.version_id}"):
            assert (await catalog.resolve(tx, account.id, reference)).version_id == runnable.version_id


@pytest.mark.parametrize("reference", ["", "0" * 64, "nobody/nothing", "{model}:" + "0" * 64, "a/b/c", ":", "/", "x:y"])
async def test_what_does_not_exist_is_an_invalid_version(resources: Resources, reference: str) -> None:
    async with resources.database.transaction() as tx:
        account, runnable = await add_account(tx), await add_runnable(tx)
        with pytest.raises(InvalidVersion):
            await catalog.resolve(tx, account.id, reference.format(model=runnable.model))


async def test_another_models_name_does_not_lead_to_a_version(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        account, one, other = await add_account(tx), await add_runnable(tx), await add_runnable(tx)
        with pytest.raises(InvalidVersion):
            await catalog.resolve(tx, account.id, f"{one.model}:{other.version_id}")


async def test_what_is_private_is_found_by_its_owner_only(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable, stranger = await add_runnable(tx), await add_account(tx)
        owner_name, name = runnable.model.split("/")
        owner = await accounts.by_username(tx, owner_name)
        await tx.execute(update(Model).where(Model.owner_id == owner.id).values(visibility="private"))
        assert (await catalog.resolve(tx, owner.id, runnable.model)).version_id == runnable.version_id
        for reference in (runnable.model, runnable.version_id):
            with pytest.raises(InvalidVersion):
                await catalog.resolve(tx, stranger.id, reference)
        with pytest.raises(NotFound):
            await catalog.get_model(tx, stranger.id, owner_name, name)
        assert name not in [
            row.name for row in await catalog.list_models(tx, stranger.id, None, 10_000) if row.owner == owner_name
        ]


async def test_publishing_the_same_artifact_again_changes_nothing(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable = await add_runnable(tx)
        row = await catalog.get_version(tx, runnable.version_id)
        again = await catalog.publish(
            tx,
            row.model_id,
            row.artifact_kind,
            row.artifact,
            config={"other": True},
            cog_version="0.1",
            slots=9,
            timeout_seconds=1,
            setup_timeout_seconds=1,
        )
        assert again == row.id == version_id(row.model_id, row.artifact_kind, row.artifact)
        assert await catalog.get_version(tx, again) == row


async def published_again(tx: Transaction, row: Row, artifact: str) -> Row:
    """The Version of that artifact, which now is the latest of the same Model."""
    limits = {"slots": 1, "timeout_seconds": 60, "setup_timeout_seconds": 60}
    id = await catalog.publish(tx, row.model_id, "bundle", artifact, config={}, cog_version="0.23.1", **limits)
    return await catalog.get_version(tx, id)


async def delete_version(tx: Transaction, row: Row) -> None:
    model = select(*Model.__table__.c, Account.username.label("owner")).join(Account).where(Model.id == row.model_id)
    await versions.delete(tx, await tx.one(model), row.id)


async def test_a_deleted_version_that_is_published_again_is_prepared_anew_unless_it_is_ready(
    resources: Resources,
) -> None:
    async with resources.database.transaction() as tx:
        row = await catalog.get_version(tx, await add_version(tx))
        await tx.execute(update(Model).where(Model.id == row.model_id).values(visibility="private"))
        assert await catalog.lease_preparation(tx, row.id, 600.0)
        await catalog.preparation_failed(tx, row.id, "the registry was away")
        await delete_version(tx, row)
        again = await published_again(tx, row, row.artifact)
        assert (again.status, again.status_reason) == (VersionStatus.PREPARING, None)
        assert row.id in await catalog.to_prepare(tx)
        await catalog.prepared(tx, row.id, **READY)
        await delete_version(tx, row)
        assert (await published_again(tx, row, row.artifact)).status == VersionStatus.READY


async def latest_of(tx: Transaction, row: Row) -> tuple[str | None, datetime | None]:
    model = await tx.one(select(Model).where(Model.id == row.model_id))
    return model.latest_version_id, model.latest_version_created_at


async def test_a_model_knows_its_latest_version_and_since_when_whatever_is_published_or_deleted(
    resources: Resources,
) -> None:
    async with resources.database.transaction() as tx:
        one = await catalog.get_version(tx, await add_version(tx))
        await tx.execute(update(Model).where(Model.id == one.model_id).values(visibility="private"))
    async with resources.database.transaction() as tx:
        two = await published_again(tx, one, new_id())
        assert two.created_at > one.created_at
        assert await latest_of(tx, one) == (two.id, two.created_at)
        await published_again(tx, one, one.artifact)
        assert await latest_of(tx, one) == (one.id, one.created_at)
        await delete_version(tx, one)
        assert await latest_of(tx, one) == (two.id, two.created_at)
        await delete_version(tx, two)
        assert await latest_of(tx, one) == (None, None)


async def test_a_deleted_version_is_nobodys_answer(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable, account = await add_runnable(tx), await add_account(tx)
        await tx.execute(update(Version).where(Version.id == runnable.version_id).values(deleted_at=func.now()))
        for reference in (runnable.version_id, runnable.model, f"{runnable.model}:{runnable.version_id}"):
            with pytest.raises(InvalidVersion):
                await catalog.resolve(tx, account.id, reference)
        assert runnable.version_id in await catalog.versions_by_id(tx, [runnable.version_id])


LIMITS = {"slots": 1, "timeout_seconds": 60, "setup_timeout_seconds": 60}


async def test_a_model_is_not_deleted_under_a_version_that_is_being_published(resources: Resources) -> None:
    """From the moment on that its publisher has found it."""
    owner = await with_model(resources)

    async with resources.database.transaction() as tx:
        model = await ownership.model_to_publish(tx, owner, "model", None)
        deleting = asyncio.create_task(delete_model(resources, owner))
        await until_somebody_waits(resources)
        await catalog.publish(tx, model.id, "bundle", new_id(), config={}, cog_version="0.23.1", **LIMITS)
    with pytest.raises(Conflict, match="has versions"):
        await deleting


async def test_who_publishes_to_a_model_that_is_being_deleted_makes_another(resources: Resources) -> None:
    owner = await with_model(resources)

    async def publish() -> str:
        async with resources.database.transaction() as tx:
            model = await ownership.model_to_publish(tx, owner, "model", None)
            return await catalog.publish(tx, model.id, "bundle", "x", config={}, cog_version="0.23.1", **LIMITS)

    async with resources.database.transaction() as tx:
        await ownership.delete_model(tx, owner.id, owner.username, "model")
        publishing = asyncio.create_task(publish())
        await until_somebody_waits(resources)
    async with resources.database.autocommit() as tx:
        id = await publishing
        assert (await catalog.resolve(tx, owner.id, f"{owner.username}/model")).version_id == id


async def test_a_version_may_be_deleted_and_published_again_at_once(resources: Resources) -> None:
    """Both want the Model and the Version: in one order, or each would wait for the other."""
    async with resources.database.transaction() as tx:
        row = await catalog.get_version(tx, await add_version(tx))
        await tx.execute(update(Model).where(Model.id == row.model_id).values(visibility="private"))
        owner = await tx.one(select(Account).join(Model).where(Model.id == row.model_id))

    async def delete() -> None:
        async with resources.database.transaction() as tx:
            await delete_version(tx, row)

    async with resources.database.transaction() as tx:
        await ownership.model_to_publish(tx, owner, "model", None)
        deleting = asyncio.create_task(delete())
        await until_somebody_waits(resources)
        await published_again(tx, row, row.artifact)
    await deleting
    async with resources.database.autocommit() as tx:
        assert (await catalog.get_version(tx, row.id)).deleted_at is not None


async def with_model(resources: Resources) -> Row:
    """An account with an empty Model."""
    async with resources.database.transaction() as tx:
        owner = await add_account(tx)
        await catalog.put_hardware(tx, "cpu", "CPU", 1)
        await ownership.create_model(tx, owner, new_id(), "model", "cpu")
    return owner


async def delete_model(resources: Resources, owner: Row) -> None:
    async with resources.database.transaction() as tx:
        await ownership.delete_model(tx, owner.id, owner.username, "model")


async def until_somebody_waits(resources: Resources) -> None:
    """For a lock that another transaction holds."""
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    async with resources.database.autocommit() as tx:
        for _ in range(500):
            if await tx.scalar(waiting):
                return
            await asyncio.sleep(0.02)
    pytest.fail("Nobody waited.")


async def test_equal_artifacts_of_two_models_are_two_versions() -> None:
    assert version_id("a", "bundle", "x") != version_id("b", "bundle", "x")
    assert version_id("a", "bundle", "x") != version_id("a", "image", "x")


async def test_of_many_who_want_to_prepare_a_version_one_may(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        id = await add_version(tx)

    async def lease() -> bool:
        async with resources.database.transaction() as tx:
            return await catalog.lease_preparation(tx, id, 60.0)

    assert sum(await asyncio.gather(*(lease() for _ in range(8)))) == 1


async def test_a_preparation_whose_lease_ran_out_is_anybodys(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        id = await add_version(tx)
        assert await catalog.lease_preparation(tx, id, 60.0)
        assert id not in await catalog.to_prepare(tx)
        past = func.now() - timedelta(minutes=1)
        await tx.execute(update(Version).where(Version.id == id).values(prepare_lease_expires_at=past))
        assert id in await catalog.to_prepare(tx)
        await catalog.renew_preparation(tx, id, 60.0)
        assert not await catalog.lease_preparation(tx, id, 60.0)


async def test_a_version_that_is_ready_stays_what_it_is(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable = await add_runnable(tx)
        before = await catalog.get_version(tx, runnable.version_id)
        await catalog.prepared(tx, runnable.version_id, **{**READY, "slots": 32})
        await catalog.preparation_failed(tx, runnable.version_id, "late")
        await catalog.prepare_again(tx, runnable.version_id)
        assert await catalog.get_version(tx, runnable.version_id) == before


async def test_what_failed_may_be_prepared_again_or_succeed_late(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        id = await add_version(tx)
        await catalog.preparation_failed(tx, id, "No such package.")
        assert (await catalog.get_version(tx, id)).status_reason == "No such package."
        await catalog.prepare_again(tx, id)
        assert (await catalog.get_version(tx, id)).status == VersionStatus.PREPARING
        await catalog.preparation_failed(tx, id, "No such package.")
        await catalog.prepared(tx, id, **READY)
        row = await catalog.get_version(tx, id)
        assert (row.status, row.status_reason) == (VersionStatus.READY, None)


async def test_the_scheduler_is_woken_when_a_version_is_ready(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        id = await add_version(tx)
    await resources.redis.delete(SCHEDULER_BELL)
    async with resources.database.transaction() as tx:
        await catalog.prepared(tx, id, **READY)
    assert await resources.redis.exists(SCHEDULER_BELL)


async def test_a_price_in_the_database_is_the_operators(resources: Resources) -> None:
    sku = f"h-{new_id()}"
    async with resources.database.transaction() as tx:
        await catalog.put_hardware(tx, sku, "CPU", 100)
        await catalog.put_hardware(tx, sku, "CPU", 999)
        _, nanos = prices.second_of(sku, None, func.now())
        assert await tx.scalar(select(nanos)) == 100


async def test_a_version_that_cannot_be_prepared_leaves_its_model_to_the_newest_that_was(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable = await add_runnable(tx)
        model_id = (await catalog.get_version(tx, runnable.version_id)).model_id
        terms = {"config": {}, "cog_version": "0.23.1", "slots": 1, "timeout_seconds": 60, "setup_timeout_seconds": 60}
        broken = await catalog.publish(tx, model_id, "bundle", new_id(), **terms)
    async with resources.database.transaction() as tx:
        assert (await catalog.resolve(tx, "nobody", runnable.model)).version_id == broken
        await catalog.preparation_failed(tx, broken, "No such package.")
        assert (await catalog.resolve(tx, "nobody", runnable.model)).version_id == runnable.version_id
