"""Instances of Deployments, on real rows: the least are warm, the most are never passed, and updates move them."""

from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import Row, func, select, update

from core import catalog, deployments, fleet, predictions
from core.catalog import Runnable
from core.deployments import Configuration
from core.ids import new_id
from core.lifecycle import InstanceStatus, PredictionStatus
from core.tables import Deployment, Instance, Model, Node, Prediction, Release
from scheduler.sweeps import scale
from scheduler.sweeps.base import Context
from tests.scheduler.conftest import Scene
from tests.support.factories import add_node, add_runnable, add_version

LONG_AGO = func.now() - timedelta(hours=1)
#: On a slow machine, too, nobody's pause is over before they have been looked at.
SOON = func.now() + timedelta(minutes=5)


class Deployed:
    """A Deployment of the scene's account, and what happens to it."""

    def __init__(self, scene: Scene, row: Row) -> None:
        self._scene = scene
        self._database = scene.resources.database
        self.id: str = row.id
        self._path = (scene.account.id, row.owner, row.name)

    @classmethod
    async def create(cls, scene: Scene, minimum: int, maximum: int, runnable: Runnable | None = None) -> "Deployed":
        id, runnable = new_id(), runnable or scene.runnable
        configuration = Configuration(runnable.model, runnable.version_id, runnable.hardware_sku, minimum, maximum)
        async with scene.resources.database.transaction() as tx:
            return cls(scene, await deployments.create(tx, id, scene.account, f"d-{id}", configuration))

    async def update(self, **changes: object) -> None:
        """Makes the next Release, which no api process needs to hear of any more."""
        async with self._database.transaction() as tx:
            await deployments.change(tx, *self._path, changes)
            await tx.execute(update(Release).where(Release.deployment_id == self.id).values(created_at=LONG_AGO))

    async def move_to_other_hardware(self) -> None:
        async with self._database.transaction() as tx:
            sku = f"h-{new_id()}"
            await catalog.put_hardware(tx, sku, sku, 1)
        await self.update(hardware_sku=sku)

    async def forget(self) -> None:
        """As if it had been deleted while an api process still remembered it."""
        async with self._database.transaction() as tx:
            await tx.execute(Deployment.__table__.delete().where(Deployment.id == self.id))

    async def runnable(self) -> Runnable:
        async with self._database.autocommit() as tx:
            return await deployments.resolve(tx, *self._path)

    async def predict(self) -> Row:
        return await self._scene.predict(await self.runnable())

    async def instances(self) -> list[Row]:
        """Those whose container may exist."""
        return [row for row in await self._scene.instances() if row.target.endswith(self.id) and row.ended_at is None]


async def boot(scene: Scene) -> None:
    """What is being started becomes ready."""
    async with scene.resources.database.transaction() as tx:
        for row in await scene.instances():
            if row.status == InstanceStatus.PENDING:
                await fleet.move_instance(tx, row.id, InstanceStatus.PENDING, InstanceStatus.STARTING)
                await fleet.move_instance(tx, row.id, InstanceStatus.STARTING, InstanceStatus.READY)


async def drain(scene: Scene) -> None:
    """What is not wanted any more goes."""
    async with scene.resources.database.transaction() as tx:
        for row in await scene.instances():
            if not row.is_wanted and row.status == InstanceStatus.READY:
                await fleet.move_instance(tx, row.id, InstanceStatus.READY, InstanceStatus.DRAINING)
                await fleet.move_instance(tx, row.id, InstanceStatus.DRAINING, InstanceStatus.STOPPED)


async def start(scene: Scene, prediction: Row) -> Row:
    """On whichever Instance of its target is ready."""
    ready = [row for row in await scene.instances() if row.target == prediction.target and row.ended_at is None]
    async with scene.resources.database.transaction() as tx:
        started = await predictions.start(tx, prediction.id, ready[0].id, scene.node.boot_id)
    assert started is not None
    return started


async def end(scene: Scene, row: Row) -> None:
    async with scene.resources.database.transaction() as tx:
        await predictions.finish(tx, row.id, row.attempt, predictions.Outcome(PredictionStatus.SUCCEEDED))


def targets(instances: list[Row]) -> Counter[str]:
    return Counter(row.target for row in instances if row.is_wanted)


# --- the least --------------------------------------------------------------------------------------------------------


async def test_the_least_are_started_as_soon_as_it_is_created_without_any_demand(
    scene: Scene, context: Context
) -> None:
    deployed = await Deployed.create(scene, 2, 3)
    for _ in range(3):
        await scale.run(context)
    assert targets(await deployed.instances()) == {(await deployed.runnable()).target: 2}


async def test_the_least_stay_however_long_they_idle_and_nobody_gets_their_place(
    scene: Scene, context: Context
) -> None:
    gpu = {"uuid": "GPU-1", "name": "NVIDIA T4", "memory_bytes": 1, "healthy": True, "reason": None}
    async with scene.resources.database.transaction() as tx:
        await add_node(tx, gpus=[gpu])
        warm, other = [await add_runnable(tx, gpu_model="NVIDIA T4", gpu_count=1) for _ in range(2)]
    deployed = await Deployed.create(scene, 1, 2, warm)
    await scale.run(context)
    await boot(scene)
    [instance] = await deployed.instances()
    await scene.write(Instance, instance.id, ready_at=LONG_AGO, last_active_at=LONG_AGO)
    row = await scene.predict(other)
    await scale.run(context)
    assert [row.is_wanted for row in await deployed.instances()] == [True]
    assert (await scene.prediction(row.id)).queue_reason == "1 of 1 NVIDIA T4 busy; this model needs 1."


async def test_what_is_beyond_the_least_goes_when_it_has_idled(scene: Scene, context: Context) -> None:
    deployed = await Deployed.create(scene, 3, 3)
    await scale.run(context)
    await boot(scene)
    await deployed.update(min_instances=1)
    for row in await deployed.instances():
        await scene.write(Instance, row.id, ready_at=LONG_AGO, last_active_at=LONG_AGO)
    await scale.run(context)
    assert sum(row.is_wanted for row in await deployed.instances()) == 1


async def test_the_least_wait_for_their_version_to_be_prepared(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        runnable = await catalog.resolve(tx, scene.account.id, await add_version(tx))
    deployed = await Deployed.create(scene, 1, 1, runnable)
    await scale.run(context)
    assert await deployed.instances() == []
    async with scene.resources.database.transaction() as tx:
        await catalog.prepared(tx, runnable.version_id, openapi_schema={}, cog_version="0.23.1", slots=1, config={})
    await scale.run(context)
    assert len(await deployed.instances()) == 1


async def test_nothing_is_kept_warm_for_an_owner_who_may_not_run_it_any_more(scene: Scene, context: Context) -> None:
    """What they have asked for before still ends."""
    deployed = await Deployed.create(scene, 1, 2)
    await scale.run(context)
    await boot(scene)
    running, waiting = await deployed.predict(), await deployed.predict()
    running = await start(scene, running)
    await hide_model(scene)
    await scale.run(context)
    assert (await scene.prediction(running.id)).cancel_requested_at is None
    assert (await scene.prediction(waiting.id)).status == PredictionStatus.STARTING
    for row in (running, await start(scene, waiting)):
        await end(scene, row)
    for row in await deployed.instances():
        await scene.write(Instance, row.id, ready_at=LONG_AGO, last_active_at=LONG_AGO)
    await scale.run(context)
    assert [row.is_wanted for row in await deployed.instances()] == [False]
    await drain(scene)
    await scale.run(context)
    assert not await deployed.instances()


async def hide_model(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        await tx.execute(update(Model).values(visibility="private"))


async def test_a_version_that_keeps_failing_is_not_started_without_end(scene: Scene, context: Context) -> None:
    deployed = await Deployed.create(scene, 2, 2)
    for _ in range(10):
        await scale.run(context)
        async with scene.resources.database.transaction() as tx:
            for row in (await deployed.instances())[:1]:
                await fleet.move_instance(tx, row.id, InstanceStatus.PENDING, InstanceStatus.FAILED, reason="Broken.")
                await tx.execute(update(Instance).where(Instance.id == row.id).values(ended_at=SOON))
    assert len(await scene.instances()) == 2


# --- the most ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maximum", [1, 2])
async def test_the_most_are_never_passed_however_many_wait(scene: Scene, context: Context, maximum: int) -> None:
    deployed = await Deployed.create(scene, 0, maximum)
    for _ in range(20):
        row = await deployed.predict()
        await scene.write(Prediction, row.id, created_at=LONG_AGO)
    for _ in range(6):
        await scale.run(context)
        await boot(scene)
        assert len(await deployed.instances()) <= maximum
    assert len(await deployed.instances()) == maximum


async def test_lowering_the_most_lets_the_idle_go_first_and_the_busy_once_they_have_finished(
    scene: Scene, context: Context
) -> None:
    deployed = await Deployed.create(scene, 2, 2)
    await scale.run(context)
    await boot(scene)
    busy = await start(scene, await deployed.predict())
    await deployed.update(min_instances=1, max_instances=1)
    await scale.run(context)
    assert {row.id for row in await deployed.instances() if row.is_wanted} == {busy.instance_id}
    await start(scene, await deployed.predict())
    await deployed.update(min_instances=0, max_instances=0)
    await scale.run(context)
    assert not targets(await deployed.instances())


# --- updates ----------------------------------------------------------------------------------------------------------


async def test_an_update_of_the_bounds_moves_no_instance(scene: Scene, context: Context) -> None:
    deployed = await Deployed.create(scene, 1, 1)
    await scale.run(context)
    await boot(scene)
    [before] = await deployed.instances()
    await deployed.update(max_instances=5)
    await scale.run(context)
    assert [(row.id, row.is_wanted) for row in await deployed.instances()] == [(before.id, True)]


async def test_after_an_update_the_old_instances_go_and_the_new_ones_come_within_the_most(
    scene: Scene, context: Context
) -> None:
    deployed = await Deployed.create(scene, 1, 1)
    await scale.run(context)
    await boot(scene)
    await deployed.move_to_other_hardware()
    await scale.run(context)
    await scale.run(context)
    assert [row.is_wanted for row in await deployed.instances()] == [False], "its container may still be there"
    await drain(scene)
    await scale.run(context)
    assert targets(await deployed.instances()) == {(await deployed.runnable()).target: 1}


async def test_where_there_is_room_the_new_ones_come_at_once(scene: Scene, context: Context) -> None:
    deployed = await Deployed.create(scene, 1, 2)
    await scale.run(context)
    await boot(scene)
    await deployed.move_to_other_hardware()
    await scale.run(context)
    assert len(await deployed.instances()) == 2
    assert targets(await deployed.instances()) == {(await deployed.runnable()).target: 1}


async def test_for_a_moment_after_an_update_the_old_ones_stay_for_stragglers(scene: Scene, context: Context) -> None:
    """An api process that still remembers the earlier Release would else have it started anew."""
    deployed = await Deployed.create(scene, 1, 1)
    await scale.run(context)
    await boot(scene)
    await deployed.move_to_other_hardware()
    async with scene.resources.database.transaction() as tx:
        await tx.execute(update(Release).values(created_at=func.now()))
    await scale.run(context)
    assert [row.is_wanted for row in await deployed.instances()] == [True]


async def test_what_waits_for_an_earlier_release_runs_on_its_version_before_the_next_takes_the_place(
    scene: Scene, context: Context
) -> None:
    deployed = await Deployed.create(scene, 0, 1)
    first, second = await deployed.predict(), await deployed.predict()
    await scale.run(context)
    await boot(scene)
    await deployed.move_to_other_hardware()
    new = await deployed.predict()
    for prediction in (first, second):
        await scale.run(context)
        assert targets(await deployed.instances()) == {first.target: 1}
        await end(scene, await start(scene, prediction))
    await scale.run(context)
    await drain(scene)
    await scale.run(context)
    assert targets(await deployed.instances()) == {new.target: 1}
    assert new.target != first.target


async def test_what_waits_for_an_earlier_release_gets_a_place_though_the_next_has_them_all(
    scene: Scene, context: Context
) -> None:
    """Else it would wait for ever: the least of the current Release are never idle for too long."""
    deployed = await Deployed.create(scene, 0, 1)
    old = await deployed.predict()
    await scene.cordon()
    await scale.run(context)
    await deployed.move_to_other_hardware()
    await deployed.update(min_instances=1)
    await scene.write(Node, scene.node.id, is_cordoned=False)
    async with scene.resources.database.transaction() as tx:
        await fleet.assign(
            tx,
            node_id=scene.node.id,
            target=(await deployed.runnable()).target,
            version_id=scene.runnable.version_id,
            hardware_sku=(await deployed.runnable()).hardware_sku,
            slots=1,
            gpu_uuids=(),
        )
    await boot(scene)
    await scale.run(context)
    assert len(await deployed.instances()) == 1
    await drain(scene)
    await scale.run(context)
    assert targets(await deployed.instances()) == {old.target: 1}
    await boot(scene)
    await end(scene, await start(scene, old))
    await scale.run(context)
    await drain(scene)
    await scale.run(context)
    assert targets(await deployed.instances()) == {(await deployed.runnable()).target: 1}


async def test_an_earlier_release_that_fits_nowhere_keeps_nobody_from_the_place(scene: Scene, context: Context) -> None:
    """The update may be there to mend just that."""
    async with scene.resources.database.transaction() as tx:
        impossible = await add_runnable(tx, gpu_model="NVIDIA B300", gpu_count=1)
    deployed = await Deployed.create(scene, 0, 1, impossible)
    stuck = await deployed.predict()
    await scale.run(context)
    await deployed.move_to_other_hardware()
    new = await deployed.predict()
    for _ in range(2):
        await scale.run(context)
    assert targets(await deployed.instances()) == {new.target: 1}
    assert "No node has a healthy NVIDIA B300" in (await scene.prediction(stuck.id)).queue_reason


# --- disabled and deleted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_deployment_that_is_disabled_or_gone_cancels_what_it_had_and_lets_its_instances_go(
    scene: Scene, context: Context, is_deleted: bool
) -> None:
    deployed = await Deployed.create(scene, 2, 2)
    await scale.run(context)
    await boot(scene)
    running, waiting = await start(scene, await deployed.predict()), await deployed.predict()
    elsewhere = await scene.predict()
    await (deployed.forget() if is_deleted else deployed.update(min_instances=0, max_instances=0))
    for _ in range(2):
        await scale.run(context)
    assert (await scene.prediction(waiting.id)).status == PredictionStatus.CANCELED
    asked = await scene.prediction(running.id)
    assert (asked.status, asked.cancel_requested_at is None) == (PredictionStatus.PROCESSING, False)
    assert not targets(await deployed.instances())
    assert (await scene.prediction(elsewhere.id)).status == PredictionStatus.STARTING


async def test_a_deployment_that_is_enabled_again_is_warm_again(scene: Scene, context: Context) -> None:
    deployed = await Deployed.create(scene, 0, 0)
    await scale.run(context)
    assert await deployed.instances() == []
    await deployed.update(max_instances=1, min_instances=1)
    await scale.run(context)
    assert len(await deployed.instances()) == 1


async def test_a_deployment_shares_no_instance_with_its_model(scene: Scene, context: Context) -> None:
    deployed = await Deployed.create(scene, 0, 1)
    await deployed.predict()
    await scene.predict()
    await scale.run(context)
    async with scene.resources.database.autocommit() as tx:
        found = await tx.all(select(Instance.target))
    assert {row.target for row in found} == {scene.runnable.target, (await deployed.runnable()).target}
