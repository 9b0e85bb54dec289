"""What is owed is delivered, or given up in plain sight; a sender that dies loses nothing."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import Row, delete, func, select, update

from core import deliveries, predictions, webhooks
from core.errors import NotFound
from core.lifecycle import DeliveryStatus, PredictionStatus, WebhookEvent
from core.people import accounts
from core.predictions import Outcome
from core.tables import Account, WebhookAttempt, WebhookDelivery
from core.webhooks import CLAIM_SECONDS, JITTER, RETRY_AFTER
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


async def seconds_until_due(scene: Scene, id: str) -> float:
    until = func.extract("epoch", WebhookDelivery.next_attempt_at - func.now())
    async with scene.resources.database.autocommit() as tx:
        return float(await tx.scalar(select(until).where(WebhookDelivery.id == id)))


async def fail(scene: Scene, id: str, http_status: int | None = 500) -> DeliveryStatus:
    return await record(scene, await claim(scene, id), http_status)


async def given_up(scene: Scene) -> str:
    id = (await owed(scene)).id
    assert await fail(scene, id, 410) == DeliveryStatus.GIVEN_UP
    return id


async def replay(scene: Scene, id: str) -> Row:
    async with scene.resources.database.transaction() as tx:
        return await webhooks.replay(tx, scene.account.id, id)


async def recover(scene: Scene, since: timedelta, until: timedelta = timedelta(0)) -> int:
    """So long ago, each."""
    async with scene.resources.database.transaction() as tx:
        moment = await tx.scalar(select(func.now()))
        return await webhooks.recover(tx, scene.account.id, moment - since, moment - until)


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


# --- when it is tried again, and when not -----------------------------------------------------------------------------


async def test_each_pause_is_longer_by_a_part_that_chance_decides(scene: Scene) -> None:
    pauses = []
    for _ in range(8):
        id = (await owed(scene)).id
        for _ in range(4):
            await fail(scene, id)
        pauses.append(await seconds_until_due(scene, id))
    pause = RETRY_AFTER[3].total_seconds()
    assert pause - 10 < min(pauses) < max(pauses) <= pause * (1 + JITTER)
    assert len({round(pause, 2) for pause in pauses}) > 1


async def test_a_receiver_that_is_gone_is_given_up_at_once(scene: Scene) -> None:
    id = (await owed(scene)).id
    assert await fail(scene, id, 410) == DeliveryStatus.GIVEN_UP
    assert await claim(scene, id) is None


# --- sent again because somebody asks ---------------------------------------------------------------------------------


async def test_a_replay_of_what_was_given_up_has_all_its_attempts_again(scene: Scene) -> None:
    id = await given_up(scene)
    row = await replay(scene, id)
    assert (row.id, row.status, row.attempts) == (id, "pending", 1)
    answers = [await fail(scene, id) for _ in range(len(RETRY_AFTER) + 1)]
    assert answers == [DeliveryStatus.PENDING] * len(RETRY_AFTER) + [DeliveryStatus.GIVEN_UP]
    async with scene.resources.database.autocommit() as tx:
        numbers = [attempt.number for attempt in await deliveries.attempts(tx, id)]
    assert numbers == list(range(1, len(RETRY_AFTER) + 3))


async def test_what_was_delivered_can_be_replayed_and_remembers_that_it_was(scene: Scene) -> None:
    id = (await owed(scene)).id
    await record(scene, await claim(scene, id), 200)
    delivered_at = (await now(scene, id)).delivered_at
    row = await replay(scene, id)
    assert (row.status, row.delivered_at) == ("pending", delivered_at)
    assert await seconds_until_due(scene, id) <= 0
    await record(scene, await claim(scene, id), 200)
    assert (await now(scene, id)).delivered_at > delivered_at


async def test_a_replay_hurries_what_waits_and_its_schedule_goes_on_as_before(scene: Scene) -> None:
    id = (await owed(scene)).id
    for _ in range(5):
        await fail(scene, id)
    for _ in range(3):
        assert await seconds_until_due(scene, id) > 60
        await replay(scene, id)
        await replay(scene, id)
        assert await seconds_until_due(scene, id) <= 0
        await fail(scene, id)
    pause = RETRY_AFTER[4].total_seconds()
    assert pause - 10 < await seconds_until_due(scene, id) <= pause * (1 + JITTER)


async def test_a_replay_before_the_first_attempt_changes_nothing(scene: Scene) -> None:
    delivery = await owed(scene)
    assert await replay(scene, delivery.id) == delivery


async def test_a_replay_while_an_attempt_is_on_its_way_is_not_undone_by_its_failure(scene: Scene) -> None:
    on_its_way = await claim(scene, (await owed(scene)).id)
    await replay(scene, on_its_way.id)
    await record(scene, on_its_way, 410)
    assert (await now(scene, on_its_way.id)).status == "pending"
    assert await seconds_until_due(scene, on_its_way.id) <= 0


async def test_only_its_owner_replays_a_delivery(scene: Scene) -> None:
    id = await given_up(scene)
    with pytest.raises(NotFound):
        async with scene.resources.database.transaction() as tx:
            await webhooks.replay(tx, "somebody else", id)
    assert (await now(scene, id)).status == "given_up"


async def test_a_replay_of_what_is_being_purged_finds_nothing(scene: Scene) -> None:
    id = await given_up(scene)
    async with scene.resources.database.transaction() as purging:
        await purging.execute(delete(WebhookAttempt).where(WebhookAttempt.delivery_id == id))
        await purging.execute(delete(WebhookDelivery).where(WebhookDelivery.id == id))
        replaying = asyncio.create_task(replay(scene, id))
        await asyncio.sleep(0.2)
        assert not replaying.done(), "it waits for the purge"
    with pytest.raises(NotFound):
        await replaying


async def test_recovery_takes_what_has_failed_and_leaves_the_rest(scene: Scene) -> None:
    lost, waiting, delivered, on_its_way, untried = [await given_up(scene), *[(await owed(scene)).id for _ in range(4)]]
    await fail(scene, waiting)
    await record(scene, await claim(scene, delivered), 200)
    await claim(scene, on_its_way)
    others = {id: await now(scene, id) for id in (delivered, on_its_way, untried)}
    assert await recover(scene, timedelta(hours=1)) == 2
    for id in (lost, waiting):
        assert (await now(scene, id)).status == "pending"
        assert await seconds_until_due(scene, id) <= 0
    assert {id: await now(scene, id) for id in others} == others
    assert await seconds_until_due(scene, on_its_way) > CLAIM_SECONDS / 2


async def test_recovery_keeps_to_its_time_and_to_its_account(scene: Scene) -> None:
    id = await given_up(scene)
    assert await recover(scene, timedelta(0), timedelta(-1)) == 0
    assert await recover(scene, timedelta(days=2), timedelta(days=1)) == 0
    async with scene.resources.database.transaction() as tx:
        await tx.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == id)
            .values(created_at=func.now() - timedelta(days=1, hours=1))
        )
        moment = await tx.scalar(select(func.now()))
        assert await webhooks.recover(tx, "somebody else", moment - timedelta(days=2)) == 0
    assert await recover(scene, timedelta(days=2), timedelta(days=1)) == 1


async def test_more_than_can_be_recovered_at_once_is_recovered_oldest_first(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "RECOVERED_AT_ONCE", 2)
    oldest_first = [await given_up(scene) for _ in range(3)]
    assert await recover(scene, timedelta(hours=1)) == 2
    assert [(await now(scene, id)).status for id in oldest_first] == ["pending", "pending", "given_up"]
    assert await recover(scene, timedelta(hours=1)) == 1
    assert await recover(scene, timedelta(hours=1)) == 0


# --- the secrets that sign --------------------------------------------------------------------------------------------


async def test_the_secret_before_signs_for_a_day_and_no_longer(scene: Scene) -> None:
    account = scene.account
    async with scene.resources.database.transaction() as tx:
        first = account.webhook_secret
        second = (await accounts.rotate_webhook_secret(tx, account.id)).webhook_secret
        assert await accounts.signing_secrets(tx, account.id) == [second, first]
        third = (await accounts.rotate_webhook_secret(tx, account.id)).webhook_secret
        assert await accounts.signing_secrets(tx, account.id) == [third, second]
        over = update(Account).where(Account.id == account.id).values(previous_webhook_secret_until=func.now())
        await tx.execute(over)
        assert await accounts.signing_secrets(tx, account.id) == [third]
        assert (await accounts.get(tx, account.id)).previous_webhook_secret == second
        assert await accounts.forget_expired_secrets(tx) >= 1
        row = await accounts.get(tx, account.id)
    assert (row.previous_webhook_secret, row.previous_webhook_secret_until) == (None, None)
