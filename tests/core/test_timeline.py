"""A prediction's timeline tells every change of its state, and what it waited for; to its owner, nothing of others."""

from itertools import pairwise

from sqlalchemy import Row, update

from core import events, fleet, predictions, timeline
from core.lifecycle import InstanceStatus, NodeFault, PredictionStatus
from core.predictions import Outcome
from core.tables import Node
from core.timeline import Entry
from tests.core.conftest import Scene
from tests.support.factories import add_instance, add_node, add_prediction

S = PredictionStatus
SECRET = "Makes room for other/secret-model."


async def told(scene: Scene, id: str, *, sees_all: bool = False) -> list[Entry]:
    async with scene.resources.database.autocommit() as tx:
        row = await predictions.find(tx, id)
        return await timeline.of(tx, row, sees_all=sees_all)


def of_prediction(entries: list[Entry]) -> list[tuple[str, str | None, str | None]]:
    return [(entry.actor, entry.was, entry.becomes) for entry in entries if entry.subject == "prediction"]


async def begin(scene: Scene, id: str, instance_id: str | None = None, node: Row | None = None) -> Row:
    async with scene.resources.database.transaction() as tx:
        node = node or scene.node
        return await predictions.start(tx, id, instance_id or scene.instance_id, node.boot_id)


async def test_a_run_is_told_from_its_creation_to_its_end(scene: Scene) -> None:
    database = scene.resources.database
    waiting = await add_prediction(database, scene.account.id, scene.runnable)
    row = await begin(scene, waiting.id)
    async with database.transaction() as tx:
        await predictions.finish(tx, row.id, row.attempt, Outcome(S.SUCCEEDED, output="done", micros=1_250_000))
    entries = await told(scene, row.id)
    account = f"account:{scene.account.username}"
    assert of_prediction(entries) == [
        (account, None, "starting"),
        ("node", "starting", "processing"),
        ("node", "processing", "succeeded"),
    ]
    assert entries[0].reason == "Created over the API."
    assert entries[1].reason.startswith(f"Attempt 1, on instance {scene.instance_id}. It had waited ")
    assert entries[2].reason == "It ran 1.25 s."
    assert all(before.at <= after.at for before, after in pairwise(entries))
    assert [entry.actor for entry in await told(scene, row.id, sees_all=True)][1] == f"node:{scene.node.name}"


async def test_an_attempt_that_came_to_nothing_is_told_with_where_and_why(scene: Scene) -> None:
    database = scene.resources.database
    waiting = await add_prediction(database, scene.account.id, scene.runnable)
    await begin(scene, waiting.id)
    async with database.transaction() as tx:
        await predictions.interrupt(tx, waiting.id, 1, True, reason="its node stopped reporting")
        other = await add_node(tx)
        instance_id = await add_instance(tx, other, scene.runnable)
    await begin(scene, waiting.id, instance_id, other)
    async with database.transaction() as tx:
        await predictions.interrupt(tx, waiting.id, 2, True, actor=f"node:{other.name}", reason="its container died")
    entries = await told(scene, waiting.id)
    assert of_prediction(entries)[1:] == [
        ("node", "starting", "processing"),
        ("scheduler", "processing", "starting"),
        ("node", "starting", "processing"),
        ("node", "processing", "failed"),
    ]
    reasons = [entry.reason for entry in entries if entry.subject == "prediction"]
    assert reasons[1] == f"Attempt 1, on instance {scene.instance_id}."
    assert reasons[2] == f"Attempt 1, on instance {scene.instance_id}, came to nothing: its node stopped reporting."
    assert reasons[4] == f"Attempt 2, on instance {instance_id}, came to nothing: its container died."
    assert not [entry for entry in entries if other.name in f"{entry.actor}{entry.reason}"]


async def test_the_boots_it_waited_for_and_the_reasons_of_its_queue_are_told(scene: Scene) -> None:
    database = scene.resources.database
    waiting = await add_prediction(database, scene.account.id, scene.runnable)
    async with database.transaction() as tx:
        await events.record(tx, events.target(scene.runnable.target), events.SCHEDULER, reason="2 of 2 GPUs busy.")
    async with database.transaction() as tx:
        await events.record(tx, events.target(scene.runnable.target), events.SCHEDULER, reason="2 of 2 GPUs busy.")
        broken = await add_booting(tx, scene)
        await fleet.move_instance(
            tx, broken, InstanceStatus.STARTING, InstanceStatus.FAILED, reason="It exited with 1.", setup_seconds=3.0
        )
        booted = await add_booting(tx, scene)
        await fleet.move_instance(
            tx, booted, InstanceStatus.STARTING, InstanceStatus.READY, boot_seconds=2.0, setup_seconds=3.0
        )
    await begin(scene, waiting.id, booted)
    async with database.transaction() as tx:
        await events.record(tx, events.target(scene.runnable.target), events.SCHEDULER, reason="Not its business.")
    entries = await told(scene, waiting.id)
    assert [entry.reason for entry in entries if entry.subject == "queue"] == ["2 of 2 GPUs busy."]
    boots = {id: [e for e in entries if e.subject == f"instance:{id}"] for id in (broken, booted, scene.instance_id)}
    assert [entry.becomes for entry in boots[broken]] == ["pending", "starting", "failed"]
    assert boots[broken][-1].reason == "It exited with 1."
    assert [entry.becomes for entry in boots[booted]] == ["pending", "starting", "ready"]
    assert boots[booted][-1].reason == "Its container is up: boot 2.00 s, setup 3.00 s."
    assert boots[scene.instance_id] == [], "it was ready before, and did not run it"


async def add_booting(tx, scene: Scene) -> str:
    runnable = scene.runnable
    id = await fleet.assign(
        tx,
        node_id=scene.node.id,
        target=runnable.target,
        version_id=runnable.version_id,
        hardware_sku=runnable.hardware_sku,
        slots=1,
        gpu_uuids=(),
    )
    await fleet.move_instance(tx, id, InstanceStatus.PENDING, InstanceStatus.STARTING)
    return id


async def test_why_a_container_is_let_go_is_told_to_admins_only(scene: Scene) -> None:
    """It may name what others run."""
    database = scene.resources.database
    waiting = await add_prediction(database, scene.account.id, scene.runnable)
    await begin(scene, waiting.id)
    async with database.transaction() as tx:
        await fleet.unwant(tx, scene.instance_id, SECRET)
    async with database.transaction() as tx:
        await fleet.move_instance(tx, scene.instance_id, InstanceStatus.READY, InstanceStatus.DRAINING)
    async with database.transaction() as tx:
        await fleet.move_instance(tx, scene.instance_id, InstanceStatus.DRAINING, InstanceStatus.FAILED)
    to_owner, to_admin = await told(scene, waiting.id), await told(scene, waiting.id, sees_all=True)
    assert not [entry for entry in to_owner if "secret-model" in (entry.reason or "")]
    assert [entry.becomes for entry in to_owner if entry.subject.startswith("instance")] == ["failed"]
    assert len([entry for entry in to_admin if "secret-model" in (entry.reason or "")]) == 2


async def test_what_still_waits_is_told_why_last(scene: Scene) -> None:
    database = scene.resources.database
    waiting = await add_prediction(database, scene.account.id, scene.runnable)
    async with database.transaction() as tx:
        await tx.execute(
            update(predictions.Prediction).where(predictions.Prediction.id == waiting.id).values(queue_reason="Full.")
        )
    assert (await told(scene, waiting.id))[-1].reason == "Full."


async def test_who_canceled_and_whose_deadline_passed_is_told(scene: Scene) -> None:
    database = scene.resources.database
    early, late = [await add_prediction(database, scene.account.id, scene.runnable) for _ in range(2)]
    row = await begin(scene, late.id)
    async with database.transaction() as tx:
        for one in (early, late):
            await predictions.cancel(tx, scene.account.id, one.id)
    async with database.transaction() as tx:
        await predictions.finish(tx, row.id, row.attempt, Outcome(S.CANCELED, micros=500_000))
    account = f"account:{scene.account.username}"
    assert of_prediction(await told(scene, early.id))[1:] == [(account, "starting", "canceled")]
    entries = await told(scene, late.id)
    assert of_prediction(entries)[2:] == [(account, None, None), ("node", "processing", "canceled")]
    assert entries[-1].reason == "It was asked to. It ran 0.50 s."


async def test_a_node_tells_of_its_lives_and_of_its_devices(scene: Scene) -> None:
    def gpu(**more) -> dict:
        return {"uuid": "GPU-1", "name": "NVIDIA H200", "memory_bytes": 1, "healthy": True, "reason": None, **more}

    database = scene.resources.database
    async with database.transaction() as tx:
        node = await add_node(tx, gpus=[gpu()])
        for gpus in ([gpu()], [gpu(healthy=False, reason="ECC errors.")], [gpu(healthy=False, reason="More.")], []):
            assert await fleet.heartbeat(tx, node.id, node.boot_id, gpus, 60.0, clock=0.0, artifacts=["b", "a"])
        await tx.execute(update(Node).where(Node.id == node.id).values(lease_expires_at=node.created_at))
        await fleet.declare_lost(tx)
        reborn = await add_node(tx, name=node.name)
        await fleet.release_lease(tx, reborn.id, reborn.boot_id)
        await fleet.declare_lost(tx)
        told = await events.of(tx, events.node(node.name))
        [row] = [row for row in await tx.all(Node.__table__.select()) if row.id == node.id]
    assert [(event.actor, event.was, event.becomes) for event in told if event.becomes] == [
        (f"node:{node.name}", None, "up"),
        ("scheduler", "up", "lost"),
        (f"node:{node.name}", "lost", "up"),
        (f"node:{node.name}", "up", "stopped"),
    ]
    assert [event.reason for event in told if not event.becomes] == [
        "NVIDIA H200 (GPU-1) is not well: ECC errors.",
        "The device GPU-1 is not there any more.",
    ]
    assert row.artifacts == ["a", "b"]
    assert row.clock_offset_seconds < -1e9, "its clock stands at 1970"


async def test_what_a_lost_node_held_is_told_as_lost(scene: Scene) -> None:
    async with scene.resources.database.transaction() as tx:
        late = await add_node(tx, lease_seconds=-1.0)
        id = await add_instance(tx, late, scene.runnable)
        await fleet.declare_lost(tx)
        last = (await events.of(tx, events.instance(id)))[-1]
    assert (last.actor, last.was, last.becomes, last.reason) == ("scheduler", "ready", "failed", NodeFault.LOST)
