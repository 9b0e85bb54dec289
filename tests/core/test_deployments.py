"""Releases are numbered without gaps or twins whoever updates at once, and a Deployment is one account's own."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from sqlalchemy import Row, func, select, update

from core import catalog, deployments, fleet, predictions, unstarted
from core.catalog import Runnable
from core.database import Transaction
from core.deployments import Configuration, deployment_of
from core.errors import Conflict, NotFound, ValidationFailed
from core.ids import new_id
from core.lifecycle import InstanceStatus, PredictionStatus
from core.predictions import Request
from core.redis import SCHEDULER_BELL
from core.resources import Resources, open_resources
from core.settings import Settings
from core.tables import Instance, Release
from tests.core.conftest import Scene
from tests.support.factories import add_account, add_instance, add_node, add_runnable

#: Changes that meet: few values, so that many of them change nothing.
CHANGES = st.dictionaries(
    st.sampled_from(["min_instances", "max_instances"]), st.integers(0, 3), min_size=1, max_size=2
)


def configuration_of(runnable: Runnable, minimum: int = 0, maximum: int = 3) -> Configuration:
    return Configuration(runnable.model, runnable.version_id, runnable.hardware_sku, minimum, maximum)


async def deploy(tx: Transaction, owner: Row, runnable: Runnable, minimum: int = 0, maximum: int = 3) -> Row:
    id = new_id()
    return await deployments.create(tx, id, owner, f"d-{id}", configuration_of(runnable, minimum, maximum))


async def releases_of(resources: Resources, id: str) -> Sequence[Row]:
    async with resources.database.autocommit() as tx:
        return await tx.all(select(Release).where(Release.deployment_id == id).order_by(Release.number))


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_concurrent_updates_number_releases_without_gaps_or_twins(settings: Settings) -> None:
    # A loop and connections of its own: Hypothesis is synchronous, and runs between the tests' own loop's turns.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = open_resources(settings)
        resources = runner.run(opened.__aenter__())
        try:
            prove = given(st.lists(st.lists(CHANGES, min_size=1, max_size=5), min_size=1, max_size=3))(
                lambda batches: runner.run(numbered(resources, batches))
            )
            bounds(max_examples=25, deadline=None)(prove)()
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def numbered(resources: Resources, batches: list[list[dict[str, int]]]) -> None:
    """The changes of a batch are made at once, one batch after the other."""
    async with resources.database.transaction() as tx:
        owner, runnable = await add_account(tx), await add_runnable(tx)
        deployment = await deploy(tx, owner, runnable)
    answers: list[tuple[dict[str, int], Row]] = []
    for batch in batches:
        rows = await asyncio.gather(*(change(resources, owner, deployment.name, changes) for changes in batch))
        answers += [(changes, row) for changes, row in zip(batch, rows, strict=True) if row is not None]
    releases = await releases_of(resources, deployment.id)
    assert [release.number for release in releases] == list(range(1, len(releases) + 1))
    for before, after in zip(releases, releases[1:], strict=False):
        assert (before.min_instances, before.max_instances) != (after.min_instances, after.max_instances)
    assert all(release.min_instances <= release.max_instances for release in releases)
    for changes, row in answers:
        shown = releases[row.number - 1]
        assert changes.items() <= {"min_instances": shown.min_instances, "max_instances": shown.max_instances}.items()
    async with resources.database.autocommit() as tx:
        current = await deployments.get(tx, owner.id, owner.username, deployment.name)
    assert current.number == len(releases)


async def change(resources: Resources, owner: Row, name: str, changes: dict[str, Any]) -> Row | None:
    """None: the bounds would not have gone together."""
    try:
        async with resources.database.transaction() as tx:
            return await deployments.change(tx, owner.id, owner.username, name, changes)
    except ValidationFailed:
        return None


# --- verbs ------------------------------------------------------------------------------------------------------------


async def test_creating_and_changing_wake_the_scheduler_and_changing_nothing_does_not(
    resources: Resources, clean_database: None
) -> None:
    async with resources.database.transaction() as tx:
        owner, runnable = await add_account(tx), await add_runnable(tx)
    await resources.redis.delete(SCHEDULER_BELL)
    async with resources.database.transaction() as tx:
        row = await deploy(tx, owner, runnable)
    assert await resources.redis.delete(SCHEDULER_BELL)
    for minimum, rings in ((1, 1), (1, 0)):
        await change(resources, owner, row.name, {"min_instances": minimum})
        assert await resources.redis.delete(SCHEDULER_BELL) == rings


async def test_the_same_id_again_finds_what_it_made_and_another_finds_the_name_taken(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        owner, runnable = await add_account(tx), await add_runnable(tx)
        id, configuration = new_id(), configuration_of(runnable)
        first = await deployments.create(tx, id, owner, "mine", configuration)
        assert await deployments.create(tx, id, owner, "mine", configuration) == first
        with pytest.raises(Conflict, match="mine"):
            await deployments.create(tx, new_id(), owner, "mine", configuration)
        other = await deployments.create(tx, new_id(), await add_account(tx), "mine", configuration)
    assert other.id != id
    assert len(await releases_of(resources, id)) == 1


async def test_a_deployment_runs_a_queue_of_its_own(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        owner, runnable = await add_account(tx), await add_runnable(tx)
        row = await deploy(tx, owner, runnable)
        resolved = await deployments.resolve(tx, owner.id, owner.username, row.name)
        with pytest.raises(NotFound):
            await deployments.resolve(tx, (await add_account(tx)).id, owner.username, row.name)
    assert resolved.target == f"{runnable.target}@{row.id}"
    assert (deployment_of(resolved.target), deployment_of(runnable.target)) == (row.id, None)
    assert resolved.deployment == f"{owner.username}/{row.name}"
    assert resolved.openapi_schema == runnable.openapi_schema


async def test_a_version_that_a_deployment_asks_for_is_not_deleted_meanwhile(resources: Resources) -> None:
    """Whoever deletes it waits, and then finds the Deployment."""
    async with resources.database.transaction() as tx:
        owner, runnable = await add_account(tx), await add_runnable(tx)
        await deploy(tx, owner, runnable)
        async with resources.database.transaction() as other:
            locked = select(catalog.Version.id).where(catalog.Version.id == runnable.version_id)
            assert await other.first(locked.with_for_update(skip_locked=True)) is None


async def test_what_was_removed_is_forgotten_with_its_releases_and_its_name_is_free(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        owner, runnable = await add_account(tx), await add_runnable(tx)
        row = await deploy(tx, owner, runnable)
    async with resources.database.transaction() as tx:
        await deployments.remove(tx, owner.id, owner.username, row.name)
        with pytest.raises(NotFound):
            await deployments.remove(tx, owner.id, owner.username, row.name)
        await deployments.create(tx, new_id(), owner, row.name, configuration_of(runnable))
    assert not await releases_of(resources, row.id)


async def test_an_instance_of_an_earlier_release_is_in_the_way_of_removing(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        owner, runnable, node = await add_account(tx), await add_runnable(tx), await add_node(tx)
        row = await deploy(tx, owner, runnable)
        id = await add_instance(tx, node, await deployments.resolve(tx, owner.id, owner.username, row.name))
        await catalog.put_hardware(tx, f"h-{row.id}", "Another", 1)
    await change(resources, owner, row.name, {"hardware_sku": f"h-{row.id}"})
    with pytest.raises(Conflict, match="is online"):
        await remove(resources, owner, row.name)
    async with resources.database.transaction() as tx:
        await fleet.move_instance(tx, id, InstanceStatus.READY, InstanceStatus.DRAINING)
        await fleet.move_instance(tx, id, InstanceStatus.DRAINING, InstanceStatus.STOPPED)
    with pytest.raises(Conflict, match="was in use within the last 15 minutes"):
        await remove(resources, owner, row.name)
    async with resources.database.transaction() as tx:
        long_ago = func.now() - deployments.UNUSED
        await tx.execute(update(Instance).where(Instance.id == id).values(ended_at=long_ago))
    await remove(resources, owner, row.name)


async def remove(resources: Resources, owner: Row, name: str) -> None:
    async with resources.database.transaction() as tx:
        await deployments.remove(tx, owner.id, owner.username, name)


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_cancelling_a_target_ends_what_waits_and_asks_what_runs_and_leaves_the_rest(scene: Scene) -> None:
    database = scene.resources.database
    async with database.transaction() as tx:
        other = await add_runnable(tx)
        ids = []
        for runnable in (scene.runnable, scene.runnable, other):
            row = await predictions.create(tx, Request(scene.account.id, runnable, {}))
            ids.append(row.id)
        assert await predictions.start(tx, ids[0], *scene.holder)
    async with scene.resources.redis.pubsub() as channel:
        await channel.subscribe(f"node:{scene.node.id}")
        for _ in range(2):
            async with database.transaction() as tx:
                await unstarted.cancel_target(tx, scene.runnable.target)
        heard = [await channel.get_message(ignore_subscribe_messages=True, timeout=0.2) for _ in range(4)]
    assert [message["data"] for message in heard if message] == [f"cancel {ids[0]}"]
    async with database.autocommit() as tx:
        running, waiting, untouched = [await predictions.find(tx, id) for id in ids]
        assert await predictions.cancel_requested(tx, scene.node.boot_id) == [ids[0]]
    assert (running.status, running.completed_at) == (PredictionStatus.PROCESSING, None)
    assert (waiting.status, waiting.completed_at is None) == (PredictionStatus.CANCELED, False)
    assert untouched.status == PredictionStatus.STARTING
