"""What is owed is delivered, or given up in plain sight; a sender that dies loses nothing."""

from datetime import timedelta

import pytest
from sqlalchemy import Row, func, select, update

from core import predictions, webhooks
from core.lifecycle import DeliveryStatus, PredictionStatus, WebhookEvent
from core.predictions import Outcome
from core.tables import WebhookAttempt, WebhookDelivery
from core.webhooks import RETRY_AFTER
from tests.core.conftest import Scene
from tests.support.factories import add_prediction


async def owed(scene: Scene, **fields) -> Row | None:
    """The delivery of a prediction that has ended, if there is one."""
    fields = {"webhook_url": "http://127.0.0.1:9/hook", **fields}
    waiting = await add_prediction(scene.resources.database, scene.account.id, scene.runnable, **fields)
    async with scene.resources.database.transaction() as tx:
        row = await predictions.start(tx, waiting.id, *scene.holder)
        await predictions.finish(tx, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED))
    async with scene.resources.database.autocommit() as tx:
        return await tx.first(select(WebhookDelivery).where(WebhookDelivery.prediction_id == waiting.id))


async def claim(scene: Scene, id: str) -> Row | None:
    """Makes it due, whatever time it is, and claims what is due."""
    async with scene.resources.database.transaction() as tx:
        due = update(WebhookDelivery).where(WebhookDelivery.id == id)
        await tx.execute(due.values(next_attempt_at=func.now() - timedelta(days=1)))
    async with scene.resources.database.transaction() as tx:
        claimed = await webhooks.claim_due(tx, 100)
    return next((row for row in claimed if row.id == id), None)


async def record(scene: Scene, delivery: Row, http_status: int | None) -> DeliveryStatus:
    async with scene.resources.database.transaction() as tx:
        return await webhooks.record_attempt(tx, delivery, http_status, None if http_status else "refused", 12)


async def now(scene: Scene, id: str) -> Row:
    async with scene.resources.database.autocommit() as tx:
        return await tx.one(select(WebhookDelivery).where(WebhookDelivery.id == id))


@pytest.mark.parametrize(
    ("events", "is_owed"),
    [(None, True), (["completed"], True), (["output", "completed"], True), (["start", "output", "logs"], False)],
)
async def test_the_end_is_owed_to_whoever_asked_for_it(scene: Scene, events: list[str] | None, is_owed: bool) -> None:
    assert (await owed(scene, webhook_events=events) is not None) == is_owed


async def test_nothing_is_owed_without_a_url(scene: Scene) -> None:
    assert await owed(scene, webhook_url=None) is None


async def test_a_message_keeps_its_id_over_all_attempts(scene: Scene) -> None:
    delivery = await owed(scene)
    assert delivery.id.startswith("msg_")
    assert {(await claim(scene, delivery.id)).id for _ in range(2)} == {delivery.id}


@pytest.mark.parametrize("http_status", [200, 204, 299])
async def test_any_answer_of_2xx_ends_it(scene: Scene, http_status: int) -> None:
    delivery = await claim(scene, (await owed(scene)).id)
    assert await record(scene, delivery, http_status) == DeliveryStatus.DELIVERED
    assert (await now(scene, delivery.id)).delivered_at is not None
    assert await claim(scene, delivery.id) is None


@pytest.mark.parametrize("http_status", [None, 199, 301, 404, 500])
async def test_any_other_answer_is_tried_again_later(scene: Scene, http_status: int | None) -> None:
    delivery = await claim(scene, (await owed(scene)).id)
    assert await record(scene, delivery, http_status) == DeliveryStatus.PENDING
    after = await now(scene, delivery.id)
    async with scene.resources.database.autocommit() as tx:
        assert after.next_attempt_at > await tx.scalar(select(func.now()))
    assert after.attempts == 1


async def test_after_the_last_attempt_it_is_given_up_and_every_attempt_is_on_record(scene: Scene) -> None:
    id = (await owed(scene)).id
    answers = [await record(scene, await claim(scene, id), 500) for _ in range(len(RETRY_AFTER) + 1)]
    assert answers == [DeliveryStatus.PENDING] * len(RETRY_AFTER) + [DeliveryStatus.GIVEN_UP]
    assert await claim(scene, id) is None
    async with scene.resources.database.autocommit() as tx:
        attempts = await tx.all(
            select(WebhookAttempt.number).where(WebhookAttempt.delivery_id == id).order_by(WebhookAttempt.number)
        )
    assert [row.number for row in attempts] == list(range(1, len(RETRY_AFTER) + 2))


async def test_a_claimed_one_is_nobody_elses_until_its_sender_must_be_dead(scene: Scene) -> None:
    delivery = await claim(scene, (await owed(scene)).id)
    async with scene.resources.database.transaction() as tx:
        assert delivery.id not in [row.id for row in await webhooks.claim_due(tx, 100)]
    assert (await claim(scene, delivery.id)).attempts == delivery.attempts + 1


async def test_an_attempt_that_ends_after_another_began_decides_nothing(scene: Scene) -> None:
    late = await claim(scene, (await owed(scene)).id)
    current = await claim(scene, late.id)
    await record(scene, late, 500)
    assert (await now(scene, late.id)).next_attempt_at == current.next_attempt_at
    assert await record(scene, current, 200) == DeliveryStatus.DELIVERED


async def test_events_that_pass_are_handed_on_once_and_in_order(scene: Scene) -> None:
    redis = scene.resources.redis
    while await webhooks.collect_passing(redis, 1000):
        continue
    await webhooks.pass_on(redis, "p", WebhookEvent.START)
    await webhooks.pass_on(redis, "p", WebhookEvent.OUTPUT)
    assert await webhooks.collect_passing(redis, 10) == [("p", WebhookEvent.START), ("p", WebhookEvent.OUTPUT)]
    assert await webhooks.collect_passing(redis, 10) == []
