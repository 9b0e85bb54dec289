"""Verbs of a prediction that meet: whoever comes first wins, and the others change nothing."""

import asyncio

import pytest
from sqlalchemy import Row, func, select

from core import demand, history, predictions, queue, streams, unstarted
from core.database import Transaction
from core.errors import StaleWrite
from core.lifecycle import FailureCode, PredictionStatus
from core.money import prices
from core.predictions import Outcome
from core.redis import node_channel
from core.tables import LedgerEntry, UsageRecord, WebhookDelivery
from tests.core.conftest import Scene
from tests.support.factories import add_account, add_instance, add_node, add_prediction, add_runnable

SUCCEEDED = Outcome(PredictionStatus.SUCCEEDED, output="hello", micros=1_500_000)


async def start(scene: Scene, id: str) -> Row | None:
    async with scene.resources.database.autocommit() as tx:
        return await predictions.start(tx, id, *scene.holder)


async def running(scene: Scene, **fields) -> Row:
    waiting = await add_prediction(scene.resources.database, scene.account.id, scene.runnable, **fields)
    return await start(scene, waiting.id)


async def finish(scene: Scene, row: Row, outcome: Outcome = SUCCEEDED) -> str:
    try:
        async with scene.resources.database.autocommit() as tx:
            await predictions.finish(tx, row.id, row.attempt, outcome)
    except StaleWrite:
        return "stale"
    return "finished"


async def cancel(scene: Scene, id: str) -> str:
    async with scene.resources.database.transaction() as tx:
        return (await predictions.cancel(tx, scene.account.id, id)).status


async def interrupt(scene: Scene, row: Row, allows_retry: bool = True, **known: bool) -> None:
    async with scene.resources.database.transaction() as tx:
        await predictions.interrupt(tx, row.id, row.attempt, allows_retry, **known)


async def now(scene: Scene, id: str) -> Row:
    async with scene.resources.database.autocommit() as tx:
        return await predictions.find(tx, id)


async def counts(scene: Scene, id: str) -> tuple[int, int, int]:
    """Usage records, ledger entries and deliveries of a prediction."""

    async def count(tx: Transaction, statement) -> int:
        return await tx.scalar(select(func.count()).select_from(statement.subquery()))

    records = select(UsageRecord.id).where(UsageRecord.cause_id == id)
    async with scene.resources.database.autocommit() as tx:
        return (
            await count(tx, records),
            await count(tx, select(LedgerEntry.id).where(LedgerEntry.usage_record_id.in_(records))),
            await count(tx, select(WebhookDelivery.id).where(WebhookDelivery.prediction_id == id)),
        )


async def test_of_fifty_starts_at_once_exactly_one_wins(scene: Scene) -> None:
    waiting = await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    rows = await asyncio.gather(*(start(scene, waiting.id) for _ in range(50)))
    assert [row.attempt for row in rows if row is not None] == [1]


async def test_of_twenty_finishes_at_once_exactly_one_is_charged(scene: Scene) -> None:
    row = await running(scene, webhook_url="http://127.0.0.1:9/")
    answers = await asyncio.gather(*(finish(scene, row) for _ in range(20)))
    assert sorted(answers) == ["finished"] + ["stale"] * 19
    assert await counts(scene, row.id) == (1, 2, 1)


async def test_starts_and_cancels_at_once_leave_each_prediction_with_one_of_them(scene: Scene) -> None:
    rows = [
        await add_prediction(scene.resources.database, scene.account.id, scene.runnable, webhook_url="http://x/")
        for _ in range(10)
    ]
    started = asyncio.gather(*(start(scene, row.id) for row in rows))
    await asyncio.gather(*(cancel(scene, row.id) for row in reversed(rows)))
    for before, won in zip(rows, await started, strict=True):
        after = await now(scene, before.id)
        assert after.cancel_requested_at is not None, "whoever won, the wish is on record"
        assert after.status == (PredictionStatus.PROCESSING if won else PredictionStatus.CANCELED)
        assert await counts(scene, before.id) == (0, 0, 0 if won else 1)


async def test_a_cancel_is_heard_while_the_prediction_goes_back_to_its_queue(scene: Scene) -> None:
    for _ in range(10):
        row = await running(scene)
        await asyncio.gather(cancel(scene, row.id), interrupt(scene, row))
        assert (await now(scene, row.id)).status == PredictionStatus.CANCELED


async def test_finish_and_cancel_and_interrupt_at_once_end_it_once(scene: Scene) -> None:
    for _ in range(5):
        row = await running(scene, webhook_url="http://127.0.0.1:9/")
        answer, *_ = await asyncio.gather(
            finish(scene, row), cancel(scene, row.id), interrupt(scene, row, allows_retry=False), cancel(scene, row.id)
        )
        after = await now(scene, row.id)
        assert PredictionStatus(after.status).is_terminal
        charged = 1 if answer == "finished" else 0
        assert (after.status == PredictionStatus.SUCCEEDED) == bool(charged)
        assert await counts(scene, row.id) == (charged, 2 * charged, 1)


async def test_creating_the_same_id_again_finds_the_first_and_queues_nothing(scene: Scene) -> None:
    first = await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    again = await add_prediction(scene.resources.database, scene.account.id, scene.runnable, id=first.id)
    assert again == first
    assert await queue.depth(scene.resources.redis, scene.runnable.target) == 1


async def test_what_is_canceled_or_late_leaves_its_queue(scene: Scene) -> None:
    redis, target = scene.resources.redis, scene.runnable.target
    kept, gone, late = [
        await add_prediction(scene.resources.database, scene.account.id, scene.runnable, deadline_seconds=deadline)
        for deadline in (None, None, -1.0)
    ]
    await cancel(scene, gone.id)
    async with scene.resources.database.transaction() as tx:
        await unstarted.expire(tx)
    assert await queue.take(redis, target, 10) == [kept.id]
    assert (await now(scene, late.id)).status == PredictionStatus.ABORTED


async def test_asking_to_cancel_tells_the_node_that_runs_it(scene: Scene) -> None:
    row = await running(scene)
    async with scene.resources.redis.pubsub() as channel:
        await channel.subscribe(node_channel(scene.node.id))
        await channel.get_message(timeout=5)
        await cancel(scene, row.id)
        message = await channel.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message["data"] == f"cancel {row.id}"
    async with scene.resources.database.autocommit() as tx:
        assert await predictions.cancel_requested(tx, scene.node.boot_id) == [row.id]


async def test_a_deadline_that_passes_while_it_runs_is_the_runners_to_obey(scene: Scene) -> None:
    row = await running(scene, deadline_seconds=0.0)
    async with scene.resources.database.autocommit() as tx:
        assert await predictions.cancel_requested(tx, scene.node.boot_id) == [row.id]
        await unstarted.expire(tx)
    assert (await now(scene, row.id)).status == PredictionStatus.PROCESSING


async def test_whoever_ran_it_first_writes_nothing_once_another_runs_it(scene: Scene) -> None:
    first = await running(scene)
    await interrupt(scene, first)
    second = await start(scene, first.id)
    async with scene.resources.database.autocommit() as tx:
        assert not await predictions.append(tx, first.id, first.attempt, None, "late")
    assert await finish(scene, first) == "stale"
    assert await finish(scene, second) == "finished"
    assert await counts(scene, first.id) == (1, 2, 0)


async def test_what_never_began_waits_again_however_often_and_before_the_others_of_its_account(scene: Scene) -> None:
    row = await running(scene)
    other = await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    for _ in range(predictions.MAX_ATTEMPTS + 1):
        await queue.remove_many(scene.resources.redis, [(row.target, row.account_id, row.id)])
        await interrupt(scene, row, allows_retry=False, has_begun=False)
        assert await queue.take(scene.resources.redis, row.target, 2) == [row.id, other.id]
        await queue.push(scene.resources.redis, other.target, other.account_id, other.id)
        row = await start(scene, row.id)
    assert await finish(scene, row) == "finished"


async def test_what_had_been_said_survives_an_interruption_and_is_free(scene: Scene) -> None:
    row = await running(scene, webhook_url="http://127.0.0.1:9/")
    async with scene.resources.database.autocommit() as tx:
        await predictions.append(tx, row.id, row.attempt, ["half"], "began\n")
    await interrupt(scene, row)
    after = await now(scene, row.id)
    assert (after.status, after.failure_code) == (PredictionStatus.FAILED, FailureCode.NODE_LOST)
    assert (after.output, after.logs) == (["half"], "began\n")
    assert await counts(scene, row.id) == (0, 0, 1)


async def test_however_many_wait_some_are_told_at_a_time_and_all_in_the_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "TOLD_AT_ONCE", 2)
    database = scene.resources.database
    rows = [await add_prediction(database, scene.account.id, scene.runnable) for _ in range(3)]
    for told in (2, 3, 3):
        async with database.transaction() as tx:
            await demand.explain(tx, scene.runnable.target, "Because.")
        reasons = [(await now(scene, row.id)).queue_reason for row in rows]
        assert reasons == ["Because."] * told + [None] * (3 - told)


async def test_explaining_reaches_only_those_who_wait_for_that_target(scene: Scene) -> None:
    waits, runs = await add_prediction(scene.resources.database, scene.account.id, scene.runnable), await running(scene)
    async with scene.resources.database.autocommit() as tx:
        await demand.explain(tx, scene.runnable.target, "Because.")
    assert (await now(scene, waits.id)).queue_reason == "Because."
    assert (await now(scene, runs.id)).queue_reason is None
    started = await start(scene, waits.id)
    assert started.queue_reason is None


async def test_demand_counts_what_waits_and_what_runs_for_each_target(scene: Scene) -> None:
    await running(scene)
    for _ in range(2):
        await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    async with scene.resources.database.autocommit() as tx:
        [row] = [row for row in await demand.demand(tx) if row.target == scene.runnable.target]
        assert (row.waiting, row.running) == (2, 1)
        assert row.oldest_wait >= 0
        assert (await demand.running_by_instance(tx))[scene.instance_id] == 1


async def test_a_page_is_followed_by_the_next_without_gap_or_overlap(scene: Scene) -> None:
    ids = [(await add_prediction(scene.resources.database, scene.account.id, scene.runnable)).id for _ in range(5)]
    seen: list[str] = []
    before = None
    async with scene.resources.database.autocommit() as tx:
        while page := await history.list_page(tx, scene.account.id, 2, before):
            seen += [row.id for row in page]
            before = (page[-1].created_at, page[-1].id)
    assert seen == ids[::-1]


async def test_nothing_is_listed_to_a_stranger(scene: Scene) -> None:
    await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    async with scene.resources.database.transaction() as tx:
        stranger = await add_account(tx)
        assert await history.list_page(tx, stranger.id, 10) == []


async def test_the_end_wakes_whoever_listens(scene: Scene) -> None:
    row = await running(scene)
    async with scene.resources.redis.pubsub() as channel:
        await channel.subscribe("finished")
        await channel.get_message(timeout=5)
        await finish(scene, row)
        message = await channel.get_message(ignore_subscribe_messages=True, timeout=5)
    assert message["data"] == row.id


async def test_a_price_that_changes_while_it_runs_changes_nothing(scene: Scene) -> None:
    row = await running(scene)
    async with scene.resources.database.transaction() as tx:
        sku = scene.runnable.hardware_sku
        await prices.put(tx, kind="hardware", subject=sku, nanos_per_unit=10**9, created_by="admin")
    await finish(scene, row)
    async with scene.resources.database.autocommit() as tx:
        record = await tx.one(select(UsageRecord).where(UsageRecord.cause_id == row.id))
    assert record.amount_nanos == 1_500_000 * row.price_nanos_per_second // 1_000_000


async def test_two_predictions_of_one_instance_are_two(scene: Scene) -> None:
    first, second = await running(scene), await running(scene)
    assert await finish(scene, first) == await finish(scene, second) == "finished"
    assert (await now(scene, first.id)).completed_at <= (await now(scene, second.id)).completed_at


async def test_a_start_on_an_instance_that_is_not_ready_is_refused(scene: Scene) -> None:
    waiting = await add_prediction(scene.resources.database, scene.account.id, scene.runnable)
    async with scene.resources.database.transaction() as tx:
        other = await add_runnable(tx)
        node = await add_node(tx)
        instance_id = await add_instance(tx, node, other)
        assert await predictions.start(tx, waiting.id, instance_id, scene.node.boot_id) is None, "not that node's life"
        assert await predictions.start(tx, waiting.id, "unknown", scene.node.boot_id) is None
    assert (await now(scene, waiting.id)).status == PredictionStatus.STARTING


async def test_streams_replay_their_end(scene: Scene) -> None:
    redis = scene.resources.redis
    row = await running(scene)
    await streams.extend(redis, row.id, ["a", {"b": None}])
    async with redis.pipeline(transaction=False) as pipeline:
        streams.end(pipeline, row.id, "succeeded", None)
        await pipeline.execute()
    entries = await streams.read(redis, row.id, streams.START)
    assert [(entry.kind, entry.value) for entry in entries] == [
        ("output", "a"),
        ("output", {"b": None}),
        ("done", {"status": "succeeded", "error": None}),
    ]
    assert await streams.read(redis, row.id, entries[0].id) == entries[1:]
    await streams.reset(redis, row.id)
    assert not await streams.exists(redis, row.id)
