"""However many wait, ending them takes a bounded step at a time, and each step is a whole one."""

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Row, func, select

from core import predictions, queue, unstarted
from core.database import Transaction
from core.lifecycle import FailureCode, PredictionStatus
from core.redis import DELIVERY_BELL, FINISHED_CHANNEL, SCHEDULER_BELL
from core.tables import UsageRecord, WebhookDelivery
from tests.core.conftest import Scene
from tests.support.factories import add_prediction

AT_ONCE = 2
COUNT = 5

Verb = Callable[[Transaction, str], Awaitable[int]]
VERBS = {
    PredictionStatus.CANCELED: unstarted.cancel_target,
    PredictionStatus.FAILED: lambda tx, target: unstarted.refuse(tx, target, FailureCode.SETUP, "It cannot run."),
    PredictionStatus.ABORTED: lambda tx, _: unstarted.expire(tx),
}


@pytest.fixture
async def late(clean_database: None, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """The oldest first."""
    monkeypatch.setattr(unstarted, "AT_ONCE", AT_ONCE)
    fields = {"webhook_url": "http://127.0.0.1:9/", "deadline_seconds": -1.0}
    database = scene.resources.database
    return [await add_prediction(database, scene.account.id, scene.runnable, **fields) for _ in range(COUNT)]


async def ended(scene: Scene, rows: list[Row], status: PredictionStatus) -> list[bool]:
    async with scene.resources.database.autocommit() as tx:
        return [(await predictions.find(tx, row.id)).status == status for row in rows]


@pytest.mark.parametrize("status", VERBS)
async def test_a_step_takes_the_oldest_and_the_last_one_finds_none(
    late: list[Row], scene: Scene, status: PredictionStatus
) -> None:
    redis, target = scene.resources.redis, scene.runnable.target
    await redis.delete(DELIVERY_BELL)
    for taken, left in ((2, 3), (2, 1), (1, 0), (0, 0)):
        async with scene.resources.database.transaction() as tx:
            assert await VERBS[status](tx, target) == taken
        assert await ended(scene, late, status) == [True] * (COUNT - left) + [False] * left
        assert await queue.depth(redis, target) == left
    assert await redis.exists(DELIVERY_BELL)
    ids = [row.id for row in late]
    async with scene.resources.database.autocommit() as tx:
        owed = select(func.count()).where(WebhookDelivery.prediction_id.in_(ids))
        assert await tx.scalar(owed) == COUNT
        assert not await tx.scalar(select(func.count()).where(UsageRecord.cause_id.in_(ids))), "nothing is charged"


@pytest.mark.parametrize("status", [PredictionStatus.CANCELED, PredictionStatus.FAILED])
async def test_where_more_are_left_the_scheduler_is_woken(
    late: list[Row], scene: Scene, status: PredictionStatus
) -> None:
    heard = []
    for _ in range(3):
        await scene.resources.redis.delete(SCHEDULER_BELL)
        async with scene.resources.database.transaction() as tx:
            await VERBS[status](tx, scene.runnable.target)
        heard.append(bool(await scene.resources.redis.exists(SCHEDULER_BELL)))
    assert heard == [True, True, False]


async def test_each_that_ends_is_told_of(late: list[Row], scene: Scene) -> None:
    async with scene.resources.redis.pubsub() as channel:
        await channel.subscribe(FINISHED_CHANNEL)
        await channel.get_message(timeout=5)
        async with scene.resources.database.transaction() as tx:
            await unstarted.expire(tx)
        messages = [await channel.get_message(ignore_subscribe_messages=True, timeout=5) for _ in range(AT_ONCE)]
    assert {message["data"] for message in messages} == {row.id for row in late[:AT_ONCE]}
