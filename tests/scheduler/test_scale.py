"""From who waits to where Instances are assigned and which go, on real rows; and what those who wait are told."""

from datetime import timedelta

from sqlalchemy import event, func, update

from core import catalog, fleet, predictions
from core.lifecycle import FailureCode, InstanceStatus, NodeFault, PredictionStatus
from core.tables import Instance, Node, Prediction
from scheduler.obstacles import CRASH_LOOP_FAILURES, LONGEST_PAUSE_SECONDS
from scheduler.sweeps import scale
from scheduler.sweeps.base import Context
from tests.scheduler.conftest import Scene
from tests.support.factories import TEXT_OUTPUT, add_instance, add_node, add_runnable, add_version

LONG_AGO = func.now() - timedelta(hours=1)
SOON = func.now() + timedelta(seconds=5)
STARTED = "A container is being started for this model."


async def fail_setups(scene: Scene, count: int, reason: str) -> None:
    async with scene.resources.database.transaction() as tx:
        for _ in range(count):
            id = await fleet.assign(
                tx,
                node_id=scene.node.id,
                target=scene.runnable.target,
                version_id=scene.runnable.version_id,
                hardware_sku=scene.runnable.hardware_sku,
                slots=1,
                gpu_uuids=(),
            )
            await fleet.move_instance(tx, id, InstanceStatus.PENDING, InstanceStatus.STARTING)
            await fleet.move_instance(
                tx, id, InstanceStatus.STARTING, InstanceStatus.FAILED, reason=reason, setup_logs="Traceback\n"
            )
            # On a slow machine, too, nobody's pause is over before they have been looked at.
            await tx.execute(update(Instance).where(Instance.id == id).values(ended_at=SOON))


async def test_nothing_is_done_where_nobody_waits(scene: Scene, context: Context) -> None:
    await scale.run(context)
    assert await scene.instances() == []


async def test_what_is_as_it_should_be_costs_no_transaction(scene: Scene, context: Context) -> None:
    """A pass over thousands of warm Instances must not take longer than the time between two passes."""
    counts = []
    for instances in (1, 5):
        async with scene.resources.database.transaction() as tx:
            for _ in range(instances):
                await add_instance(tx, scene.node, await add_runnable(tx))
        counts.append(await transactions_of(scene, context))
    assert counts[0] == counts[1]


async def transactions_of(scene: Scene, context: Context) -> int:
    """How many a pass takes a connection for, whether it writes or not."""
    engine = scene.resources.database.engine.sync_engine
    taken: list[object] = []

    def note(connection: object, *_: object) -> None:
        taken.append(connection)

    event.listen(engine, "checkout", note)
    try:
        await scale.run(context)
    finally:
        event.remove(engine, "checkout", note)
    return len(taken)


async def test_a_version_in_a_crash_loop_keeps_no_other_from_starting(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        other = await add_runnable(tx)
    await fail_setups(scene, CRASH_LOOP_FAILURES, "no weights")
    refused, served = await scene.predict(), await scene.predict(other)
    await scale.run(context)
    assert (await scene.prediction(refused.id)).status == PredictionStatus.FAILED
    assert (await scene.prediction(served.id)).status == PredictionStatus.STARTING
    assert [row.target for row in await scene.instances() if row.ended_at is None] == [other.target]


async def test_the_first_that_waits_gets_an_instance_once(scene: Scene, context: Context) -> None:
    row = await scene.predict()
    for _ in range(3):
        await scale.run(context)
    [instance] = await scene.instances()
    assert (instance.node_id, instance.target, instance.status) == (scene.node.id, row.target, InstanceStatus.PENDING)
    assert (await scene.prediction(row.id)).queue_reason == STARTED


async def test_who_comes_while_it_boots_is_told_too(scene: Scene, context: Context) -> None:
    await scene.predict()
    await scale.run(context)
    second = await scene.predict()
    await scale.run(context)
    assert (await scene.prediction(second.id)).queue_reason == STARTED


async def test_who_waits_for_busy_slots_is_told_once_the_waiting_lasts(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        await add_instance(tx, scene.node, scene.runnable)
    row, _ = await scene.predict(), await scene.predict()
    await scale.run(context)
    assert (await scene.prediction(row.id)).queue_reason is None
    await scene.cordon()
    await scene.write(Prediction, row.id, created_at=LONG_AGO)
    await scale.run(context)
    assert (await scene.prediction(row.id)).queue_reason == (
        "All slots (1) of this model are busy. Every node that could run this model is cordoned."
    )


async def test_who_waits_for_a_node_is_told_so(scene: Scene, context: Context) -> None:
    row = await scene.predict()
    await scene.cordon()
    await scale.run(context)
    assert (await scene.prediction(row.id)).queue_reason == "Every node that could run this model is cordoned."
    await scene.write(Node, scene.node.id, lease_expires_at=LONG_AGO)
    await scale.run(context)
    assert (await scene.prediction(row.id)).queue_reason.startswith("No node is up")


async def test_who_waits_for_a_version_being_prepared_is_told_so_and_then_served(
    scene: Scene, context: Context
) -> None:
    async with scene.resources.database.transaction() as tx:
        id = await add_version(tx)
        runnable = await catalog.resolve(tx, scene.account.id, id)
    row = await scene.predict(runnable)
    await scale.run(context)
    assert "is being prepared" in (await scene.prediction(row.id)).queue_reason
    assert await scene.instances() == []
    async with scene.resources.database.transaction() as tx:
        await catalog.prepared(tx, id, openapi_schema=TEXT_OUTPUT, cog_version="0.23.1", slots=4, config={})
    await scale.run(context)
    assert [instance.slots for instance in await scene.instances()] == [4]


async def test_who_waits_for_a_version_that_could_not_be_prepared_is_refused_with_the_reason(
    scene: Scene, context: Context
) -> None:
    async with scene.resources.database.transaction() as tx:
        id = await add_version(tx)
        runnable = await catalog.resolve(tx, scene.account.id, id)
        await catalog.preparation_failed(tx, id, "No such package: torchh.")
    row = await scene.predict(runnable)
    await scale.run(context)
    ended = await scene.prediction(row.id)
    assert (ended.status, ended.failure_code) == (PredictionStatus.FAILED, FailureCode.PREPARATION)
    assert "torchh" in ended.error


async def test_a_version_that_keeps_failing_to_start_is_refused_with_its_logs(scene: Scene, context: Context) -> None:
    row = await scene.predict()
    await fail_setups(scene, CRASH_LOOP_FAILURES, "The model's setup failed: no weights")
    await scale.run(context)
    ended = await scene.prediction(row.id)
    assert (ended.status, ended.failure_code) == (PredictionStatus.FAILED, FailureCode.SETUP)
    assert ended.error.endswith("no weights")
    assert ended.logs == "Traceback\n"


async def test_after_a_pause_a_version_that_failed_to_start_gets_another_try(scene: Scene, context: Context) -> None:
    await fail_setups(scene, CRASH_LOOP_FAILURES, "no weights")
    for instance in await scene.instances():
        pause = timedelta(seconds=LONGEST_PAUSE_SECONDS + 1)
        await scene.write(Instance, instance.id, ended_at=func.now() - pause)
    row = await scene.predict()
    await scale.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.STARTING
    assert len(await scene.instances()) == CRASH_LOOP_FAILURES + 1


async def test_nodes_that_die_while_it_boots_are_no_fault_of_a_version(scene: Scene, context: Context) -> None:
    row = await scene.predict()
    for fault in NodeFault:
        await fail_setups(scene, 2, fault)
    await scale.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.STARTING


async def test_what_has_idled_for_long_goes_and_what_works_stays(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        idle, busy = [await add_instance(tx, scene.node, scene.runnable) for _ in range(2)]
    row = await scene.predict()
    async with scene.resources.database.transaction() as tx:
        await predictions.start(tx, row.id, busy, scene.node.boot_id)
    for id in (idle, busy):
        await scene.write(Instance, id, ready_at=LONG_AGO, last_active_at=LONG_AGO)
    await scale.run(context)
    assert {instance.id: instance.is_wanted for instance in await scene.instances()} == {idle: False, busy: True}


async def test_what_still_runs_on_an_instance_that_leaves_needs_no_other(scene: Scene, context: Context) -> None:
    row = await scene.predict()
    async with scene.resources.database.transaction() as tx:
        id = await add_instance(tx, scene.node, scene.runnable)
        await predictions.start(tx, row.id, id, scene.node.boot_id)
        await fleet.unwant(tx, id, "Somebody else needs the room.")
    await scale.run(context)
    assert [instance.id for instance in await scene.instances()] == [id]


async def test_letting_go_of_what_has_ended_keeps_the_reason_of_its_end(scene: Scene) -> None:
    await fail_setups(scene, 1, "no weights")
    [instance] = await scene.instances()
    async with scene.resources.database.transaction() as tx:
        await fleet.unwant(tx, instance.id, "Idle for 300 s.")
    assert [row.reason for row in await scene.instances()] == ["no weights"]


async def test_an_idle_instance_makes_room_for_a_model_that_waits_and_its_place_is_given_once_it_is_gone(
    scene: Scene, context: Context
) -> None:
    gpu = {"uuid": "GPU-1", "name": "NVIDIA T4", "memory_bytes": 1, "healthy": True, "reason": None}
    async with scene.resources.database.transaction() as tx:
        node = await add_node(tx, gpus=[gpu])
        one = await add_runnable(tx, gpu_model="NVIDIA T4", gpu_count=1)
        other = await add_runnable(tx, gpu_model="NVIDIA T4", gpu_count=1)
        idle = await add_instance(tx, node, one, ("GPU-1",))
    await scene.write(Instance, idle, ready_at=LONG_AGO, last_active_at=func.now() - timedelta(seconds=60))
    row = await scene.predict(other)
    await scale.run(context)
    [instance] = await scene.instances()
    assert not instance.is_wanted
    assert instance.reason == "Made room for another model, which is waited for."
    assert (await scene.prediction(row.id)).queue_reason == "1 of 1 NVIDIA T4 busy; this model needs 1."

    await scale.run(context)
    assert len(await scene.instances()) == 1, "until its container is gone its GPU is taken"
    async with scene.resources.database.transaction() as tx:
        await fleet.move_instance(tx, idle, InstanceStatus.READY, InstanceStatus.DRAINING)
        await fleet.move_instance(tx, idle, InstanceStatus.DRAINING, InstanceStatus.STOPPED)
    await scale.run(context)
    assert [(i.target, i.gpu_uuids) for i in await scene.instances() if i.is_wanted] == [(other.target, ["GPU-1"])]
