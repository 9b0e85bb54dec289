"""Whatever falls between two steps is found by exactly one sweep, as often as it runs."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from core import catalog, fleet, predictions, queue, webhooks
from core.jobs import QUEUE
from core.lifecycle import FailureCode, InstanceStatus, PredictionStatus
from core.predictions import Outcome
from core.redis import DELIVERY_BELL
from core.tables import Instance, Node, Prediction, UsageRecord, WebhookDelivery
from scheduler.sweeps import deliver, expire, prepare, requeue, rescue
from scheduler.sweeps.base import Context
from tests.scheduler.conftest import Scene
from tests.support.factories import add_instance, add_node, add_runnable, add_version, forbid_retry

LONG_AGO = func.now() - timedelta(hours=1)


async def running(scene: Scene, **fields) -> tuple[Prediction, str]:
    """A prediction that runs, and the Instance that runs it."""
    waiting = await scene.predict(**fields)
    async with scene.resources.database.transaction() as tx:
        instance_id = await add_instance(tx, scene.node, scene.runnable)
        row = await predictions.start(tx, waiting.id, instance_id, scene.node.boot_id)
    await queue.take(scene.resources.redis, scene.runnable.target, 1)
    return row, instance_id


# --- requeue ----------------------------------------------------------------------------------------------------------


async def test_what_waits_and_is_in_no_queue_is_queued_again(scene: Scene, context: Context) -> None:
    row = await scene.predict()
    await scene.resources.redis.flushall()
    await scene.write(Prediction, row.id, created_at=LONG_AGO)
    for _ in range(2):
        await requeue.run(context)
    assert await queue.take(scene.resources.redis, scene.runnable.target, 10) == [row.id]


async def test_however_many_wait_none_of_them_is_passed_over(
    scene: Scene, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three at a time and one batch in each pass, of two targets: the sweep goes on where it ended, and then anew."""
    monkeypatch.setattr(requeue, "_BATCH", 3)
    monkeypatch.setattr(requeue, "PASS_SECONDS", 0.0)
    async with scene.resources.database.transaction() as tx:
        other = await add_runnable(tx)
    rows = [await scene.predict(runnable) for runnable in (scene.runnable, other) for _ in range(4)]
    for row in rows:
        await scene.write(Prediction, row.id, created_at=LONG_AGO)
    for _ in range(2):
        await scene.resources.redis.flushall()
        for _ in range(3):
            await requeue.run(context)
        waiting = [(row.target, row.id) for row in rows]
        assert not await queue.missing(scene.resources.redis, waiting)


async def test_what_was_created_a_moment_ago_is_left_to_its_creator(scene: Scene, context: Context) -> None:
    await scene.predict()
    await scene.resources.redis.flushall()
    await requeue.run(context)
    assert not await queue.depth(scene.resources.redis, scene.runnable.target)


# --- rescue -----------------------------------------------------------------------------------------------------------


async def test_what_a_lost_node_ran_runs_once_more_and_then_fails(scene: Scene, context: Context) -> None:
    row, _ = await running(scene, webhook_url="http://127.0.0.1:9/")
    await scene.write(Node, scene.node.id, lease_expires_at=LONG_AGO)
    await rescue.run(context)
    [instance] = await scene.instances()
    assert (instance.status, instance.reason) == (InstanceStatus.FAILED, "Its node stopped reporting.")
    assert (await scene.prediction(row.id)).status == PredictionStatus.STARTING
    assert await queue.take(scene.resources.redis, scene.runnable.target, 1) == [row.id]

    async with scene.resources.database.transaction() as tx:
        other = await add_node(tx)
        instance_id = await add_instance(tx, other, scene.runnable)
        again = await predictions.start(tx, row.id, instance_id, other.boot_id)
    assert again.attempt == 2
    await scene.write(Node, other.id, lease_expires_at=LONG_AGO)
    await rescue.run(context)
    ended = await scene.prediction(row.id)
    assert (ended.status, ended.failure_code) == (PredictionStatus.FAILED, FailureCode.NODE_LOST)
    async with scene.resources.database.autocommit() as tx:
        assert await tx.scalar(select(func.count(UsageRecord.id))) == 0, "the platform broke it, so it is free"
        assert await tx.scalar(select(func.count(WebhookDelivery.id))) == 1


async def test_what_may_not_run_twice_fails_at_once(scene: Scene, context: Context) -> None:
    row, instance_id = await running(scene)
    async with scene.resources.database.transaction() as tx:
        await forbid_retry(tx, scene.runnable)
    await scene.write(Instance, instance_id, status=InstanceStatus.FAILED)
    await rescue.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.FAILED


async def test_what_the_earlier_life_of_a_node_ran_is_rescued(scene: Scene, context: Context) -> None:
    row, _ = await running(scene)
    async with scene.resources.database.transaction() as tx:
        await add_node(tx, name=scene.node.name)
    await rescue.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.STARTING


async def test_what_lives_is_left_alone(scene: Scene, context: Context) -> None:
    row, _ = await running(scene)
    await rescue.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.PROCESSING


async def test_after_an_outage_every_node_gets_a_whole_lease_to_report_again(scene: Scene, context: Context) -> None:
    row, _ = await running(scene)
    await scene.write(Node, scene.node.id, lease_expires_at=LONG_AGO)
    await rescue.run(Context(context.resources, context.jobs, healthy_seconds=1.0))
    assert (await scene.prediction(row.id)).status == PredictionStatus.PROCESSING
    async with scene.resources.database.transaction() as tx:
        assert await fleet.heartbeat(tx, scene.node.id, scene.node.boot_id, [], 60.0)
    await rescue.run(context)
    assert (await scene.prediction(row.id)).status == PredictionStatus.PROCESSING


# --- expire -----------------------------------------------------------------------------------------------------------


async def test_what_waits_past_its_deadline_is_aborted_and_free(scene: Scene, context: Context) -> None:
    late, early = await scene.predict(deadline_seconds=-1.0), await scene.predict(deadline_seconds=3600.0)
    await expire.run(context)
    assert (await scene.prediction(late.id)).status == PredictionStatus.ABORTED
    assert (await scene.prediction(early.id)).status == PredictionStatus.STARTING


# --- deliver ----------------------------------------------------------------------------------------------------------


async def test_the_bell_rings_again_for_what_has_been_due_for_a_while(scene: Scene, context: Context) -> None:
    row, _ = await running(scene, webhook_url="http://127.0.0.1:9/")
    async with scene.resources.database.transaction() as tx:
        await predictions.finish(tx, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED))
    await scene.resources.redis.flushall()
    await deliver.run(context)
    assert not await scene.resources.redis.exists(DELIVERY_BELL), "due for a moment only: its sender is on its way"
    async with scene.resources.database.autocommit() as tx:
        delivery = await tx.one(select(WebhookDelivery))
    await scene.write(WebhookDelivery, delivery.id, next_attempt_at=LONG_AGO)
    await deliver.run(context)
    assert await scene.resources.redis.exists(DELIVERY_BELL)
    async with scene.resources.database.transaction() as tx:
        [claimed] = await webhooks.claim_due(tx, 10)
        assert await webhooks.claim_due(tx, 10) == []
    assert claimed.id == delivery.id


# --- prepare ----------------------------------------------------------------------------------------------------------


async def jobs_waiting(scene: Scene) -> int:
    return await scene.resources.redis.llen(f"rq:queue:{QUEUE}")


async def test_versions_are_prepared_one_at_a_time_and_again_if_their_job_dies(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        first, second = await add_version(tx), await add_version(tx)
    await prepare.run(context)
    await prepare.run(context)
    assert await jobs_waiting(scene) == 1, "one waits, so no other is asked for"

    await scene.resources.redis.delete(f"rq:queue:{QUEUE}")  # a worker took it
    await prepare.run(context)
    await prepare.run(context)
    assert await jobs_waiting(scene) == 1, "the first is held by its job, the second comes"
    async with scene.resources.database.autocommit() as tx:
        assert not await catalog.to_prepare(tx)
    await scene.resources.redis.delete(f"rq:queue:{QUEUE}")

    await scene.write(catalog.Version, first, prepare_lease_expires_at=LONG_AGO)
    await prepare.run(context)
    assert await jobs_waiting(scene) == 1, "its job died with its lease"
    async with scene.resources.database.transaction() as tx:
        assert not await catalog.lease_preparation(tx, second, 60.0)


async def test_what_is_ready_or_failed_is_not_prepared(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        failed = await add_version(tx)
        await catalog.preparation_failed(tx, failed, "No such package.")
    await prepare.run(context)
    assert not await jobs_waiting(scene)
    async with scene.resources.database.transaction() as tx:
        await catalog.prepare_again(tx, failed)
    await prepare.run(context)
    assert await jobs_waiting(scene) == 1
