"""What Nodes and Versions say of themselves reaches the planner, on real rows: labels, drains, devices, peaks, pins."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, func, select

from core import deployments, events, fleet, predictions, upkeep
from core.catalog import Runnable
from core.deployments import Configuration
from core.ids import new_id
from core.lifecycle import FailureCode, InstanceStatus, PredictionStatus
from core.tables import Account, Event, Instance, Node, Prediction, Version
from scheduler.obstacles import CRASH_LOOP_FAILURES, pause
from scheduler.sweeps import drain, scale
from scheduler.sweeps.base import Context
from tests.scheduler.conftest import Scene
from tests.support.factories import add_instance, add_node, add_runnable

T4, GB = "NVIDIA T4", 10**9
LONG_AGO = func.now() - timedelta(hours=1)
#: Seconds ago: on a slow machine, too, nobody's pause is over before they have been looked at.
JUST_NOW = -5.0


def gpu(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "uuid": f"GPU-{number}", "name": T4, "memory_bytes": 16 * GB, "healthy": True, "reason": None, **fields
    }  # fmt: skip


async def with_gpus(scene: Scene, *gpus: dict[str, Any], models: int = 1, **columns: Any) -> tuple[Row, list[Runnable]]:
    async with scene.resources.database.transaction() as tx:
        node = await add_node(tx, gpus=list(gpus))
        found = [await add_runnable(tx, gpu_model=T4, gpu_count=1) for _ in range(models)]
    for runnable in found if columns else ():
        await scene.write(Version, runnable.version_id, **columns)
    return node, found


async def told(scene: Scene, row: Row) -> str | None:
    return (await scene.prediction(row.id)).queue_reason


# --- where ------------------------------------------------------------------------------------------------------------


async def test_a_version_runs_only_on_nodes_with_its_labels(scene: Scene, context: Context) -> None:
    await scene.write(Version, scene.runnable.version_id, node_labels={"zone": "eu"})
    row = await scene.predict()
    await scale.run(context)
    assert "has the labels that it asks for: zone=eu." in await told(scene, row)
    await scene.write(Node, scene.node.id, labels={"zone": "eu", "more": "than that"})
    await scale.run(context)
    assert [each.node_id for each in await scene.instances()] == [scene.node.id]


async def test_every_node_has_its_name_for_a_label(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        nodes = [await add_node(tx) for _ in range(3)]
    await scene.write(Version, scene.runnable.version_id, node_labels={"node": nodes[1].name})
    await scene.predict()
    await scale.run(context)
    assert [each.node_id for each in await scene.instances()] == [nodes[1].id]


async def test_it_starts_where_its_artifact_is(scene: Scene, context: Context) -> None:
    async with scene.resources.database.autocommit() as tx:
        artifact = (await tx.one(select(Version.artifact).where(Version.id == scene.runnable.version_id))).artifact
    async with scene.resources.database.transaction() as tx:
        nodes = [await add_node(tx) for _ in range(3)]
    await scene.write(Node, nodes[1].id, artifacts=[artifact])
    await scene.predict()
    await scale.run(context)
    assert [each.node_id for each in await scene.instances()] == [nodes[1].id]


async def test_the_least_of_a_deployment_are_spread_over_nodes(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        nodes = [scene.node, await add_node(tx), await add_node(tx)]
        configuration = Configuration(
            scene.runnable.model, scene.runnable.version_id, scene.runnable.hardware_sku, 3, 3
        )
        await deployments.create(tx, new_id(), scene.account, f"d-{new_id()}", configuration)
    await scale.run(context)
    assert sorted(each.node_id for each in await scene.instances()) == sorted(node.id for node in nodes)


async def test_a_gpu_with_mig_on_is_no_device_and_its_slices_are(scene: Scene, context: Context) -> None:
    slice = gpu(2, uuid="MIG-1", name="NVIDIA T4 MIG 1g.5gb", parent="GPU-1")
    _, [whole] = await with_gpus(scene, gpu(1), slice)
    async with scene.resources.database.transaction() as tx:
        part = await add_runnable(tx, gpu_model="NVIDIA T4 MIG 1g.5gb", gpu_count=1)
    row, _ = await scene.predict(whole), await scene.predict(part)
    await scale.run(context)
    assert [each.gpu_uuids for each in await scene.instances()] == [["MIG-1"]]
    assert (await told(scene, row)).startswith("No node has a healthy NVIDIA T4")


async def test_who_waits_for_a_gpu_that_is_held_by_others_or_ill_is_told_so(scene: Scene, context: Context) -> None:
    node, [one] = await with_gpus(scene, gpu(foreign=[{"pid": 4242, "name": "python", "memory_bytes": 9 * GB}]))
    row = await scene.predict(one)
    await scale.run(context)
    assert f"GPU 0 of {node.name} holds 9 GB for process 4242, which is not ours." in await told(scene, row)
    await scene.write(Node, node.id, gpus=[gpu(healthy=False, reason="3 uncorrectable ECC errors.")])
    await scale.run(context)
    assert f"GPU 0 of {node.name} gets no new containers: 3 uncorrectable ECC errors." in await told(scene, row)
    await scene.write(Node, node.id, gpus=[gpu()])
    await scale.run(context)
    assert [each.gpu_uuids for each in await scene.instances()] == [["GPU-1"]]


async def test_models_share_a_gpu_where_their_measured_peaks_fit(scene: Scene, context: Context) -> None:
    _, models = await with_gpus(scene, gpu(), models=3, peak_bytes=7 * GB, shares_gpu=True)
    rows = [await scene.predict(each) for each in models]
    await scale.run(context)
    assert [(each.gpu_uuids, each.shares_gpu, each.reserved_bytes) for each in await scene.instances()] == [
        (["GPU-1"], True, 7 * GB)
    ] * 2
    reasons = [await told(scene, row) for row in rows]
    assert "1 of 1 NVIDIA T4 busy; this model needs 1." in reasons


async def test_what_uses_more_than_it_was_given_leaves_no_room_for_another(scene: Scene, context: Context) -> None:
    _, [one, other] = await with_gpus(scene, gpu(), models=2, peak_bytes=7 * GB, shares_gpu=True)
    await scene.predict(one)
    await scale.run(context)
    [instance] = await scene.instances()
    await scene.write(Instance, instance.id, peak_bytes=12 * GB)
    await scene.predict(other)
    await scale.run(context)
    assert len(await scene.instances()) == 1


# --- who stays --------------------------------------------------------------------------------------------------------


async def test_the_last_instance_of_a_pinned_version_stays_and_makes_room_for_nobody(
    scene: Scene, context: Context
) -> None:
    node, [pinned, other] = await with_gpus(scene, gpu(), models=2)
    await scene.write(Version, pinned.version_id, is_pinned=True)
    async with scene.resources.database.transaction() as tx:
        id = await add_instance(tx, node, pinned, ("GPU-1",))
    await scene.write(Instance, id, ready_at=LONG_AGO, last_active_at=LONG_AGO)
    row = await scene.predict(other)
    await scene.write(Prediction, row.id, created_at=LONG_AGO)
    await scale.run(context)
    assert [each.is_wanted for each in await scene.instances()] == [True]
    assert await told(scene, row) == "1 of 1 NVIDIA T4 busy; this model needs 1."


async def test_who_has_waited_too_long_displaces_what_never_idles_which_ends_its_runs(
    scene: Scene, context: Context
) -> None:
    node, [busy, other] = await with_gpus(scene, gpu(), models=2)
    async with scene.resources.database.transaction() as tx:
        id = await add_instance(tx, node, busy, ("GPU-1",))
    runs = await scene.predict(busy)
    async with scene.resources.database.transaction() as tx:
        await predictions.start(tx, runs.id, id, node.boot_id)
    row = await scene.predict(other)
    await scale.run(context)
    assert [each.is_wanted for each in await scene.instances()] == [True], "it has not waited yet"
    await scene.write(Instance, id, ready_at=LONG_AGO, last_active_at=func.now())
    await scene.write(Prediction, row.id, created_at=LONG_AGO)
    await scale.run(context)
    [instance] = await scene.instances()
    assert (instance.is_wanted, instance.drain_deadline_at) == (False, None)
    assert (await scene.prediction(runs.id)).status == PredictionStatus.PROCESSING


async def test_who_is_kept_back_by_their_own_limit_gets_no_instance(scene: Scene, context: Context) -> None:
    await scene.write(Account, scene.account.id, max_running=1)
    async with scene.resources.database.transaction() as tx:
        other = await add_runnable(tx)
        id = await add_instance(tx, scene.node, scene.runnable)
    runs = await scene.predict()
    async with scene.resources.database.transaction() as tx:
        await predictions.start(tx, runs.id, id, scene.node.boot_id)
    waits = await scene.predict(other)
    await scale.run(context)
    assert [each.id for each in await scene.instances()] == [id]
    assert await told(scene, waits) is None


# --- drains -----------------------------------------------------------------------------------------------------------


async def test_a_node_that_is_drained_gets_nothing_and_lets_its_instances_go_by_its_deadline(
    scene: Scene, context: Context
) -> None:
    async with scene.resources.database.transaction() as tx:
        id = await add_instance(tx, scene.node, scene.runnable)
        await upkeep.drain_node(tx, scene.node.name, 60.0, "tester")
    row = await scene.predict()
    for _ in range(2):
        await drain.run(context)
        await scale.run(context)
    async with scene.resources.database.autocommit() as tx:
        deadline = (await tx.one(select(Node.drain_deadline_at).where(Node.id == scene.node.id))).drain_deadline_at
        told_of = await events.of(tx, events.instance(id))
    [instance] = await scene.instances()
    assert not instance.is_wanted
    assert abs((instance.drain_deadline_at - deadline).total_seconds()) < 1.0
    assert await told(scene, row) == "Every node that could run this model is being drained."
    assert [each.reason for each in told_of].count(f"No longer wanted. Node {scene.node.name} is being emptied.") == 1


async def test_a_drain_that_is_hurried_hurries_its_instances(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        await add_instance(tx, scene.node, scene.runnable)
        await upkeep.drain_node(tx, scene.node.name, 600.0, "tester")
    await drain.run(context)
    [before] = await scene.instances()
    async with scene.resources.database.transaction() as tx:
        await upkeep.drain_node(tx, scene.node.name, 5.0, "tester")
    await drain.run(context)
    [after] = await scene.instances()
    assert after.drain_deadline_at < before.drain_deadline_at - timedelta(seconds=500)


# --- crash loops ------------------------------------------------------------------------------------------------------


async def fail(scene: Scene, *, was_ready: bool = False, has_worked: bool = False, ago: float = JUST_NOW) -> None:
    """An Instance of the scene's Version dies, so many seconds ago."""
    async with scene.resources.database.transaction() as tx:
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
        old = InstanceStatus.READY if was_ready else InstanceStatus.STARTING
        if was_ready:
            await fleet.move_instance(tx, id, InstanceStatus.STARTING, old, setup_logs="up\n")
        logs = {} if was_ready else {"setup_logs": "Traceback\n"}
        await fleet.move_instance(tx, id, old, InstanceStatus.FAILED, reason="It exited with code 1.", **logs)
    ended = func.now() - timedelta(seconds=ago)
    values = {"ready_at": ended - timedelta(seconds=2), "last_active_at": ended - timedelta(seconds=2)}
    if has_worked:
        values["last_active_at"] = ended
    await scene.write(Instance, id, ended_at=ended, **(values if was_ready else {}))


async def live(scene: Scene) -> list[Row]:
    return [each for each in await scene.instances() if each.ended_at is None]


async def test_a_container_that_dies_is_tried_again_after_a_pause_that_doubles(scene: Scene, context: Context) -> None:
    assert [pause(count) for count in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    await fail(scene)
    row = await scene.predict()
    await scale.run(context)
    assert await live(scene) == []
    assert await told(scene, row) == (
        "A container of this version did not stay up; another is started 1 s after that. "
        "The last one: It exited with code 1."
    )
    for instance in await scene.instances():
        await scene.write(Instance, instance.id, ended_at=func.now() - timedelta(seconds=1.5))
    await scale.run(context)
    assert len(await live(scene)) == 1


async def test_the_next_try_is_on_another_node(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        other = await add_node(tx)
    await fail(scene, ago=2.0)
    await scene.predict()
    await scale.run(context)
    assert [each.node_id for each in await live(scene)] == [other.id]


async def test_nothing_makes_room_again_for_what_is_kept_warm_for_nobody_and_dies(
    scene: Scene, context: Context
) -> None:
    await scene.write(Node, scene.node.id, max_instances=1)
    async with scene.resources.database.transaction() as tx:
        idle = await add_instance(tx, scene.node, await add_runnable(tx))
        broken = scene.runnable
        configuration = Configuration(broken.model, broken.version_id, broken.hardware_sku, 1, 1)
        deployment = await deployments.create(tx, new_id(), scene.account, f"d-{new_id()}", configuration)
    await scene.write(Instance, idle, ready_at=LONG_AGO, last_active_at=func.now())
    await fail(scene, ago=2.0)
    await scale.run(context)
    assert [each.is_wanted for each in await live(scene)] == [True]
    await scene.predict(replace(broken, deployment_id=deployment.id))
    await scale.run(context)
    assert [each.is_wanted for each in await live(scene)] == [False], "somebody waits for it"


async def test_containers_that_become_ready_and_die_at_once_are_a_crash_loop_too(
    scene: Scene, context: Context
) -> None:
    for number in range(CRASH_LOOP_FAILURES):
        await fail(scene, was_ready=True, ago=JUST_NOW - number)
    row = await scene.predict()
    await scale.run(context)
    ended = await scene.prediction(row.id)
    assert (ended.status, ended.failure_code, ended.logs) == (PredictionStatus.FAILED, FailureCode.SETUP, "up\n")
    assert await live(scene) == []


async def test_inputs_that_kill_their_container_fail_nobody_else(scene: Scene, context: Context) -> None:
    for _ in range(CRASH_LOOP_FAILURES + 1):
        await fail(scene, was_ready=True, has_worked=True)
    row = await scene.predict()
    await scale.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.STARTING
    assert "did not stay up; another is started 8 s after that." in await told(scene, row)


async def test_a_version_that_takes_long_to_fail_is_given_up_too(scene: Scene, context: Context) -> None:
    """Its failures are as far from each other as its set-up may take, and still one after the other."""
    await scene.write(Version, scene.runnable.version_id, setup_timeout_seconds=900)
    for number in range(CRASH_LOOP_FAILURES):
        await fail(scene, ago=JUST_NOW + 1000 * number)
    row = await scene.predict()
    await scale.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.FAILED


async def test_a_version_that_fails_on_one_hardware_starts_on_another(scene: Scene, context: Context) -> None:
    """Whoever deploys it on one that is too small for it takes it from nobody else."""
    for _ in range(CRASH_LOOP_FAILURES):
        await fail(scene)
    for instance in await scene.instances():
        await scene.write(Instance, instance.id, hardware_sku="too-small")
    row = await scene.predict()
    await scale.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.STARTING
    assert len(await live(scene)) == 1


async def test_a_failure_long_after_the_last_is_the_first_again(scene: Scene, context: Context) -> None:
    for ago in (3000.0, 2990.0, JUST_NOW):
        await fail(scene, ago=ago)
    row = await scene.predict()
    await scale.run(context)
    assert (await told(scene, row)).startswith("A container of this version did not stay up")


async def test_one_that_stays_up_ends_a_crash_loop(scene: Scene, context: Context) -> None:
    for _ in range(CRASH_LOOP_FAILURES):
        await fail(scene, ago=60.0 + JUST_NOW)
    async with scene.resources.database.transaction() as tx:
        good = await add_instance(tx, scene.node, scene.runnable)
        await fleet.unwant(tx, good, "Idle.")
        await fleet.move_instance(tx, good, InstanceStatus.READY, InstanceStatus.DRAINING)
        await fleet.move_instance(tx, good, InstanceStatus.DRAINING, InstanceStatus.STOPPED)
    await scene.write(Instance, good, ready_at=func.now() - timedelta(seconds=30))
    await fail(scene)
    row = await scene.predict()
    await scale.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.STARTING
    assert (await told(scene, row)).startswith("A container of this version did not stay up")


async def test_a_boot_that_was_called_off_is_no_crash(scene: Scene, context: Context) -> None:
    await fail(scene)
    [instance] = await scene.instances()
    await scene.write(Instance, instance.id, is_wanted=False)
    await scene.predict()
    await scale.run(context)
    assert len(await live(scene)) == 1


# --- what is told -----------------------------------------------------------------------------------------------------


async def test_a_reason_is_an_event_once_however_many_wait_and_however_often_it_is_looked_at(
    scene: Scene, context: Context
) -> None:
    await scene.cordon()
    rows = [await scene.predict() for _ in range(3)]
    for _ in range(3):
        await scale.run(context)
        rows.append(await scene.predict())
    await scene.write(Node, scene.node.id, is_cordoned=False)
    await scale.run(context)
    async with scene.resources.database.autocommit() as tx:
        found = await tx.all(select(Event.reason, Event.actor).where(Event.subject == events.target(rows[0].target)))
    assert [tuple(each) for each in found] == [
        ("Every node that could run this model is cordoned.", events.SCHEDULER),
        ("A container is being started for this model.", events.SCHEDULER),
    ]
    assert {await told(scene, row) for row in rows} == {"A container is being started for this model."}
