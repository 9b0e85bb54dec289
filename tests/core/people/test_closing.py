"""The end of an Account: nobody speaks for it, nothing of it runs, and its history stays."""

import asyncio

import pytest
from sqlalchemy import Row, select

from core import catalog, deployments, files, predictions
from core.clock import now
from core.deployments import Configuration
from core.errors import Conflict, NotFound
from core.files import UPLOAD, NewFile
from core.ids import new_id
from core.lifecycle import PredictionStatus
from core.people import accounts, audit_trail, closing, logins, sessions, tokens
from core.people.audit_trail import Filter
from core.predictions import Outcome
from core.resources import Resources
from core.tables import Account, File, LedgerEntry, Model, Prediction, UsageRecord
from tests.core.conftest import Scene
from tests.support.factories import add_account, add_prediction, add_runnable


async def close(resources: Resources, account_id: str) -> Row:
    async with resources.database.transaction() as tx:
        return await closing.delete(tx, account_id)


async def status(resources: Resources, id: str) -> Row:
    async with resources.database.autocommit() as tx:
        return await tx.one(select(Prediction).where(Prediction.id == id))


async def start(scene: Scene, id: str) -> Row:
    async with scene.resources.database.autocommit() as tx:
        return await predictions.start(tx, id, *scene.holder)


async def test_its_tokens_and_logins_let_nobody_in(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        account, other = await add_account(tx), await add_account(tx)
        _, token = await tokens.create(tx, new_id(), account.id, "app")
        _, others = await tokens.create(tx, new_id(), other.id, "app")
        email = f"{account.username}@example.com"
        login = await logins.create(tx, account.id, email, "correct horse battery staple")
        cookie = await sessions.start(tx, login.id, "192.0.2.1", "a browser")
    await close(resources, account.id)
    async with resources.database.autocommit() as tx:
        assert await tokens.caller(tx, token) is None
        assert await sessions.find(tx, cookie) is None
        assert (await tokens.caller(tx, others)).id == other.id
    assert await logins.check(resources.database, email, "correct horse battery staple") is None


async def test_a_token_that_was_made_meanwhile_lets_nobody_in(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        account = await add_account(tx)
    await close(resources, account.id)
    async with resources.database.transaction() as tx:
        _, token = await tokens.create(tx, new_id(), account.id, "late")
    async with resources.database.autocommit() as tx:
        assert await tokens.caller(tx, token) is None


async def test_what_waits_is_canceled_and_what_runs_is_asked_to_stop(scene: Scene) -> None:
    database = scene.resources.database
    running = await add_prediction(database, scene.account.id, scene.runnable)
    await start(scene, running.id)
    waiting = await add_prediction(database, scene.account.id, scene.runnable)
    async with database.transaction() as tx:
        somebody = await add_account(tx)
    others = await add_prediction(database, somebody.id, scene.runnable)
    await close(scene.resources, scene.account.id)
    assert (await status(scene.resources, waiting.id)).status == PredictionStatus.CANCELED
    asked = await status(scene.resources, running.id)
    assert (asked.status, asked.cancel_requested_at is None) == (PredictionStatus.PROCESSING, False)
    assert (await status(scene.resources, others.id)).status == PredictionStatus.STARTING


async def test_what_was_on_its_way_in_is_canceled_a_moment_later(scene: Scene) -> None:
    await close(scene.resources, scene.account.id)
    late = await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    async with scene.resources.database.transaction() as tx:
        assert await closing.cancel_left(tx) >= 1
    assert (await status(scene.resources, late.id)).status == PredictionStatus.CANCELED
    async with scene.resources.database.transaction() as tx:
        assert await closing.cancel_left(tx) == 0


async def test_its_deployments_are_disabled_and_its_models_private(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        runnable = await add_runnable(tx)
        owner_name, _, model_name = runnable.model.partition("/")
        owner = await accounts.by_username(tx, owner_name)
        configuration = Configuration(runnable.model, runnable.version_id, runnable.hardware_sku, 1, 2)
        await deployments.create(tx, new_id(), owner, "warm", configuration)
        stranger = await add_account(tx)
        assert await catalog.get_model(tx, stranger.id, owner_name, model_name)
    await close(resources, owner.id)
    async with resources.database.autocommit() as tx:
        deployment = await deployments.get(tx, owner.id, owner_name, "warm")
        assert (deployment.min_instances, deployment.max_instances) == (0, 0)
        assert await tx.scalar(select(Model.visibility).where(Model.owner_id == owner.id)) == "private"
        with pytest.raises(NotFound):
            await catalog.get_model(tx, stranger.id, owner_name, model_name)


async def test_its_uploads_are_gone(resources: Resources) -> None:
    async def chunks():
        yield b"something"

    async with resources.database.transaction() as tx:
        account = await add_account(tx)
        new = NewFile(account.id, UPLOAD, "a.txt", "text/plain", lifetime_seconds=3600)
        row = await files.record(tx, await files.store(resources.files, new, chunks(), 100))
    await close(resources, account.id)
    async with resources.database.autocommit() as tx:
        with pytest.raises(NotFound):
            await files.get_upload(tx, account.id, row.id)
        assert await tx.scalar(select(File.expires_at).where(File.id == row.id)) <= now()


async def test_what_it_used_and_owes_stays(scene: Scene) -> None:
    prediction = await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    row = await start(scene, prediction.id)
    async with scene.resources.database.autocommit() as tx:
        await predictions.finish(tx, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED, micros=1_500_000))
    await close(scene.resources, scene.account.id)
    async with scene.resources.database.autocommit() as tx:
        account = await tx.one(select(Account).where(Account.id == scene.account.id))
        record = await tx.one(select(UsageRecord).where(UsageRecord.account_id == account.id))
        entries = await tx.all(select(LedgerEntry).where(LedgerEntry.ledger_account == f"account:{account.id}"))
    assert (account.username, account.deleted_at is None) == (scene.account.username, False)
    assert record.amount_nanos > 0
    assert sum(entry.amount_nanos for entry in entries) == -record.amount_nanos


async def test_its_name_is_given_to_nobody_else(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        account = await add_account(tx)
    await close(resources, account.id)
    async with resources.database.transaction() as tx:
        with pytest.raises(Conflict):
            await accounts.create(tx, account.username, "Another", accounts.Terms())


async def test_deleting_it_again_changes_nothing(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        account = await add_account(tx)
    first = await close(resources, account.id)
    assert await close(resources, account.id) == first
    async with resources.database.autocommit() as tx:
        events = await audit_trail.page(tx, Filter(account.id, "account.delete"), None, 10)
    assert len(events) == 1
    assert events[0].before["username"] == account.username


async def test_an_account_that_is_not_there_cannot_be_deleted(resources: Resources) -> None:
    with pytest.raises(NotFound):
        await close(resources, new_id())


async def test_of_two_admins_who_delete_each_other_one_stays(resources: Resources, clean_database: None) -> None:
    async with resources.database.transaction() as tx:
        one, other = [await accounts.ensure(tx, name, name, is_admin=True) for name in ("one", "other")]
    results = await asyncio.gather(*(close(resources, row.id) for row in (one, other)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "Row"]
    async with resources.database.autocommit() as tx:
        left = select(Account.username).where(Account.is_admin, Account.deleted_at.is_(None))
        assert len(await tx.all(left)) == 1


async def test_the_publisher_of_what_comes_along_stays(resources: Resources, clean_database: None) -> None:
    async with resources.database.transaction() as tx:
        publisher = await accounts.ensure(tx, accounts.PUBLISHER, "Millrace", type="organization")
    with pytest.raises(Conflict, match="cannot be deleted"):
        await close(resources, publisher.id)
