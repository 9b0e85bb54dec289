"""What is kept, what is removed, and that neither is ever half done."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Row, func, update

from core import predictions, retention, reuse
from core.errors import StaleWrite
from core.lifecycle import InstanceStatus, PredictionStatus
from core.predictions import Outcome, Request
from core.retention import Walk
from core.tables import (
    IdempotencyKey,
    Instance,
    LedgerEntry,
    ModelExample,
    Prediction,
    UsageRecord,
    Version,
    WebhookAttempt,
    WebhookDelivery,
)
from tests.core.conftest import Scene
from tests.support.past import INPUT, SECRET, WEBHOOK, Past, Traces

HOUR = 3600.0
LONG_AGO = func.now() - timedelta(hours=1)
GONE = Traces([], [], None, False)


@pytest.fixture
def past(scene: Scene) -> Past:
    return Past(scene.resources, scene.account, scene.runnable)


async def do(past: Past, verb: Callable[..., Any], *arguments: Any) -> int:
    async with past.resources.database.transaction() as tx:
        return await verb(tx, *arguments)


async def remove_expired(past: Past, source: str = "api") -> None:
    await walk_through(past, retention.remove_expired, source, HOUR, 100)


async def walk_through(past: Past, verb: Callable[..., Any], *arguments: Any) -> None:
    """Again, until a whole walk has taken nothing: what goes may have kept back another."""
    taken = 1
    while taken:
        walk, taken = Walk(), 0
        taken += await do(past, verb, *arguments, walk)
        while walk.last:
            taken += await do(past, verb, *arguments, walk)


# --- after a while ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [PredictionStatus.SUCCEEDED, PredictionStatus.FAILED, PredictionStatus.CANCELED])
async def test_removed_data_is_gone_everywhere_and_what_it_cost_stays(past: Past, status: PredictionStatus) -> None:
    row = await past.ended(status, file_count=2, webhook_url=WEBHOOK, cache_key=b"key")
    await past.deliver(row)
    row = await past.age(row, HOUR + 1)
    assert len((await past.traces(row.id)).bytes) == 2
    await remove_expired(past)
    removed = {"input": {}, "output": None, "logs": "", "secret_inputs": None, "cache_key": None, "data_removed": True}
    assert (await past.row(row.id))._asdict() == row._asdict() | removed
    assert await past.traces(row.id) == GONE
    [key] = await past.rows(IdempotencyKey, IdempotencyKey.resource_id == row.id)
    assert key.status == 201, "the key still stands for it"
    [usage] = await past.rows(UsageRecord, UsageRecord.cause_id == row.id)
    assert len(await past.rows(LedgerEntry, LedgerEntry.usage_record_id == usage.id)) == 2


async def test_what_ended_a_moment_ago_or_came_from_elsewhere_is_kept(past: Past) -> None:
    young = await past.age(await past.ended(), HOUR - 5)
    page = await past.age(await past.ended(source="web"), 1000 * HOUR)
    live = [await past.waiting(), await past.running()]
    for row in live:
        await past.write(Prediction, row.id, created_at=LONG_AGO)
    rows = [await past.row(row.id) for row in (young, page, *live)]
    await remove_expired(past)
    assert [await past.row(row.id) for row in rows] == rows


async def test_an_example_is_kept_as_long_as_it_is_one(past: Past) -> None:
    row = await past.age(await past.ended(file_count=1), HOUR + 1)
    await past.make_example(row)
    await remove_expired(past)
    assert await past.row(row.id) == row
    async with past.resources.database.transaction() as tx:
        await tx.execute(ModelExample.__table__.delete().where(ModelExample.prediction_id == row.id))
    await remove_expired(past)
    assert (await past.row(row.id)).data_removed


async def test_a_webhook_that_is_owed_is_rendered_from_the_data_first(past: Past) -> None:
    row = await past.age(await past.ended(webhook_url=WEBHOOK), HOUR + 1)
    await remove_expired(past)
    assert await past.row(row.id) == row
    await past.deliver(row)
    await remove_expired(past)
    assert (await past.row(row.id)).data_removed


async def test_a_result_is_kept_for_those_it_was_given_to(past: Past) -> None:
    origin = await past.ended(file_count=1, cache_key=b"key")
    hit = await past.hit(origin)
    await past.age(origin, HOUR + 1)
    await remove_expired(past)
    assert (await past.row(hit.id)).output == origin.output
    assert len((await past.traces(origin.id)).bytes) == 1
    await past.age(hit, HOUR + 1)
    await remove_expired(past)
    assert (await past.row(hit.id)).data_removed
    assert (await past.row(origin.id)).data_removed
    assert (await past.traces(origin.id)).files == []


async def test_a_result_is_given_again_or_removed_and_never_both(past: Past) -> None:
    """Who comes first has it: the other waits, and finds nothing, or leaves it to the next pass."""
    origin = await past.age(await past.ended(file_count=1, cache_key=b"key"), HOUR + 1)
    request = Request(past.account.id, past.runnable, INPUT, cache_key=b"key")
    async with past.resources.database.transaction() as giving:
        assert await reuse.create(giving, request) is not None
        assert not await do(past, retention.remove_expired, "api", HOUR, 100, Walk())
    await remove_expired(past)
    assert await past.row(origin.id) == origin

    other = await past.age(await past.ended(file_count=1, cache_key=b"other"), HOUR + 1)
    request = Request(past.account.id, past.runnable, INPUT, cache_key=b"other")
    async with past.resources.database.transaction() as removing:
        await retention.remove_expired(removing, "api", HOUR, 100, Walk())
        asking = asyncio.create_task(do(past, reuse.create, request))
        await asyncio.sleep(0.2)
        assert not asking.done(), "it waits for the removal"
    assert await asking is None
    assert (await past.row(other.id)).data_removed


async def test_a_batch_is_bounded_and_the_oldest_go_first(past: Past) -> None:
    rows = [await past.age(await past.ended(), HOUR + seconds) for seconds in (10, 30, 20)]
    await remove_expired(past, "web")
    walk = Walk()
    while not (await past.row(rows[1].id)).data_removed:
        assert await do(past, retention.remove_expired, "api", HOUR, 1, walk) <= 1
    assert not (await past.row(rows[0].id)).data_removed
    await remove_expired(past)


async def test_many_that_may_not_go_yet_keep_no_other_from_going(past: Past) -> None:
    """However many they are, a batch looks at so few, and the next one goes on behind them."""
    await remove_expired(past, "api")
    kept = [await past.age(await past.ended(webhook_url=WEBHOOK), HOUR + seconds) for seconds in (50, 40, 30, 20)]
    free = await past.age(await past.ended(), HOUR + 10)
    walk = Walk()
    while not (await past.row(free.id)).data_removed:
        assert await do(past, retention.remove_expired, "api", HOUR, 2, walk) <= 1
        assert walk.last or (await past.row(free.id)).data_removed, "it has not passed it by"
    await past.deliver(kept[0])
    await remove_expired(past)
    assert [(await past.row(row.id)).data_removed for row in kept] == [True, False, False, False]


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_a_secret_input_is_kept_until_the_end_and_no_longer(past: Past) -> None:
    waiting, running = await past.waiting(), await past.running()
    assert waiting.input == running.input == INPUT
    await do(past, predictions.interrupt, running.id, running.attempt, True)
    assert (await past.row(running.id)).input == INPUT, "it runs once more"
    for row in (waiting, running):
        await do(past, predictions.cancel, past.account.id, row.id)
    succeeded = await past.ended(cache_key=b"secret")
    hit = await past.hit(succeeded)
    for id in (waiting.id, running.id, succeeded.id, hit.id):
        row = await past.row(id)
        assert row.input == {"text": "hello", "key": None}
        assert row.secret_inputs == ["key"]
        assert SECRET not in str(row)


@pytest.mark.parametrize("input", [{}, {"text": None}, {"text": [1, {"key": 2}]}])
async def test_an_input_without_its_secret_stays_as_it_is(past: Past, input: dict[str, Any]) -> None:
    async with past.resources.database.transaction() as tx:
        row = await predictions.create(tx, Request(past.account.id, past.runnable, input, secret_inputs=["key"]))
        await predictions.cancel(tx, past.account.id, row.id)
    assert (await past.row(row.id)).input == input


# --- what a deleted Version leaves behind -----------------------------------------------------------------------------


async def delete(past: Past) -> str:
    await past.write(Version, past.runnable.version_id, deleted_at=func.now())
    return past.runnable.version_id


async def purge(past: Past, version_id: str) -> None:
    """One turn of each verb, as the sweep takes them."""
    await do(past, retention.cancel_of_version, version_id, 100)
    await do(past, retention.unwant_of_version, version_id, 100)
    for verb in (retention.remove_of_version, retention.delete_predictions):
        await walk_through(past, verb, version_id, 1)
    while await do(past, retention.delete_instances, version_id, 1):
        continue
    await do(past, retention.delete_version, version_id)


async def test_a_deleted_version_takes_with_it_all_but_what_was_paid(past: Past) -> None:
    ended = [await past.ended(file_count=1), await past.ended(source="web"), await past.ended(webhook_url=WEBHOOK)]
    await past.make_example(ended[0])
    await past.deliver(ended[2])
    origin = await past.ended(cache_key=b"key")
    ended += [origin, await past.hit(origin)]
    waiting, running = await past.waiting(), await past.running()
    version_id = await delete(past)

    await purge(past, version_id)
    for row in ended:
        assert (await past.row(row.id)).data_removed, "whatever the retention"
        assert await past.traces(row.id) == GONE
    assert (await past.row(waiting.id)).status == PredictionStatus.CANCELED
    asked = await past.row(running.id)
    assert (asked.status, asked.cancel_requested_at is None) == (PredictionStatus.PROCESSING, False)
    instances = await past.rows(Instance, Instance.version_id == version_id)
    assert not [row for row in instances if row.is_wanted]

    await do(past, predictions.finish, running.id, running.attempt, Outcome(PredictionStatus.CANCELED, "half"))
    everything = update(Prediction).where(Prediction.version_id == version_id).values(completed_at=LONG_AGO)
    async with past.resources.database.transaction() as tx:
        await tx.execute(everything)
        ending = update(Instance).where(Instance.version_id == version_id)
        await tx.execute(ending.values(status=InstanceStatus.STOPPED, ended_at=func.now()))
    await purge(past, version_id)
    assert await past.rows(Prediction, Prediction.version_id == version_id) == []
    assert await past.rows(Instance, Instance.version_id == version_id) == []
    ids = [row.id for row in (*ended, waiting, running)]
    assert await past.rows(WebhookDelivery, WebhookDelivery.prediction_id.in_(ids)) == []
    assert await past.rows(WebhookAttempt, WebhookAttempt.delivery_id.in_([f"msg_{id}" for id in ids])) == []
    assert await past.rows(Version, Version.id == version_id) != [], "somebody may still remember it"
    await past.write(Version, version_id, deleted_at=LONG_AGO)
    await purge(past, version_id)
    assert await past.rows(Version, Version.id == version_id) == []
    assert len(await past.rows(UsageRecord, UsageRecord.version_id == version_id)) == 4


async def test_a_webhook_owed_for_a_deleted_version_is_delivered_first(past: Past) -> None:
    row = await past.age(await past.ended(webhook_url=WEBHOOK), HOUR)
    version_id = await delete(past)
    await past.write(Version, version_id, deleted_at=LONG_AGO)
    await purge(past, version_id)
    kept = await past.row(row.id)
    assert (kept.data_removed, kept.output, kept.status) == (True, None, PredictionStatus.SUCCEEDED)
    assert await past.rows(Version, Version.id == version_id) != []
    await past.deliver(row)
    await purge(past, version_id)
    assert await past.row(row.id) is None


async def test_a_version_that_was_published_again_keeps_what_is_made_with_it(past: Past, scene: Scene) -> None:
    version_id = await delete(past)
    await past.write(Version, version_id, deleted_at=None)
    live, ended = await past.waiting(), await past.age(await past.ended(), HOUR)
    before = [await past.row(live.id), await past.row(ended.id)]
    await purge(past, version_id)
    assert [await past.row(live.id), await past.row(ended.id)] == before
    [instance] = await past.rows(Instance, Instance.id == scene.instance_id)
    assert instance.is_wanted


async def test_ending_and_purging_at_once_ends_first_and_purges_after(past: Past) -> None:
    running = [await past.running() for _ in range(8)]
    version_id = await delete(past)

    async def finish(row: Row) -> None:
        try:
            await do(past, predictions.finish, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED, "x", micros=1))
        except StaleWrite:
            pytest.fail("purging took a prediction that was running")

    await asyncio.gather(*(finish(row) for row in running), *(purge(past, version_id) for _ in range(3)))
    await purge(past, version_id)
    for row in running:
        ended = await past.row(row.id)
        assert (ended.status, ended.output, ended.data_removed) == (PredictionStatus.SUCCEEDED, None, True)
        assert len(await past.rows(UsageRecord, UsageRecord.cause_id == row.id)) == 1
