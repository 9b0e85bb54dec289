"""The log of webhooks and the secret that signs them: their owner's alone, and sent again when asked for."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, update
from standardwebhooks import Webhook, WebhookVerificationError

from core.clock import now, rfc3339
from core.resources import Resources
from core.tables import Account, WebhookDelivery
from tests.api.rows import insert_predictions
from tests.api.scene import Caller, Scene
from tests.support.scripted_receiver import ScriptedReceiver, receiving
from worker.deliveries import Sender

PATIENCE_SECONDS = 30.0
DAY = timedelta(days=1)


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
async def sender(resources: Resources) -> AsyncIterator[None]:
    """The process that sends webhooks."""
    stop = asyncio.Event()
    settings = resources.settings.model_copy(update={"allow_private_webhooks": True})
    running = asyncio.create_task(Sender(replace(resources, settings=settings)).run(stop))
    yield
    stop.set()
    await running


async def owe(client: httpx.AsyncClient, scene: Scene, caller: Caller, url: str) -> str:
    """Ends a prediction and returns the id of what is owed."""
    version = (await scene.publish(caller)).version
    body = {"version": version, "input": {"text": "Ada"}, "webhook": url}
    created = (await client.post("/v1/predictions", json=body)).json()
    await client.post(f"/v1/predictions/{created['id']}/cancel")
    [delivery] = (await client.get("/v1/webhooks/deliveries", params={"prediction": created["id"]})).json()["results"]
    return delivery["id"]


async def until(client: httpx.AsyncClient, id: str, **expected: Any) -> dict[str, Any]:
    for _ in range(int(PATIENCE_SECONDS / 0.05)):
        delivery = (await client.get(f"/v1/webhooks/deliveries/{id}")).json()
        if delivery.items() >= expected.items():
            return delivery
        await asyncio.sleep(0.05)
    raise AssertionError(f"It has not become {expected}: {delivery}")


async def insert_deliveries(
    resources: Resources, scene: Scene, caller: Caller, count: int, status: str = "delivered"
) -> list[str]:
    """Their ids, oldest first, a second apart, of predictions that ended long ago."""
    predictions = await insert_predictions(resources, caller, await scene.publish(caller), count)
    moment = now() - DAY
    rows = [
        {
            "id": f"msg_{prediction}",
            "account_id": caller.id,
            "prediction_id": prediction,
            "event": "completed",
            "url": "http://127.0.0.1:9/",
            "status": status,
            "next_attempt_at": moment,
            "created_at": moment + timedelta(seconds=number),
        }
        for number, prediction in enumerate(predictions)
    ]
    async with resources.database.transaction() as tx:
        await tx.execute(insert(WebhookDelivery), rows)
    return [row["id"] for row in rows]


async def ids(client: httpx.AsyncClient, **params: Any) -> list[str]:
    answer = (await client.get("/v1/webhooks/deliveries", params=params)).json()
    return [delivery["id"] for delivery in answer["results"]]


# --- the log ----------------------------------------------------------------------------------------------------------


async def test_a_delivery_is_on_record_with_each_attempt(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, receiver: ScriptedReceiver, sender: None
) -> None:
    receiver.answer([301])
    id = await owe(client, scene, caller, f"{receiver.url}/hook")
    delivery = await until(client, id, status="delivered")
    [moved, taken] = delivery.pop("attempts")
    assert delivery == {
        "id": id,
        "prediction": id.removeprefix("msg_"),
        "event": "completed",
        "url": f"{receiver.url}/hook",
        "status": "delivered",
        "attempt_count": 2,
        "created_at": delivery["created_at"],
        "next_attempt_at": None,
        "delivered_at": delivery["delivered_at"],
    }
    assert moved.keys() == {"number", "created_at", "http_status", "error", "duration_ms"}
    assert (moved["number"], moved["http_status"]) == (1, 301)
    assert moved["error"].startswith(f"It redirects to {receiver.url}/elsewhere; redirects are not followed")
    assert (taken["number"], taken["http_status"], taken["error"]) == (2, 200, None)
    assert delivery["created_at"] < moved["created_at"] < taken["created_at"]


async def test_what_waits_says_when_it_is_tried_again(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    id = await owe(client, scene, caller, "http://127.0.0.1:9/")
    delivery = (await client.get(f"/v1/webhooks/deliveries/{id}")).json()
    assert (delivery["status"], delivery["attempts"]) == ("pending", [])
    assert delivery["next_attempt_at"].endswith("Z")


async def test_the_log_is_paged_newest_first(
    client: httpx.AsyncClient, resources: Resources, scene: Scene, caller: Caller
) -> None:
    oldest_first = await insert_deliveries(resources, scene, caller, 205)
    seen, next = [], "/v1/webhooks/deliveries?status=delivered"
    while next:
        answer = (await client.get(next)).json()
        seen += [delivery["id"] for delivery in answer["results"]]
        next = answer["next"]
        assert next is None or len(answer["results"]) == 100
    assert seen == oldest_first[::-1]


async def test_the_log_can_be_narrowed_down(
    client: httpx.AsyncClient, resources: Resources, scene: Scene, caller: Caller
) -> None:
    lost = await insert_deliveries(resources, scene, caller, 3, "given_up")
    [delivered] = await insert_deliveries(resources, scene, caller, 1)
    assert await ids(client, status="given_up") == lost[::-1]
    assert await ids(client, status="pending") == []
    assert await ids(client, prediction=lost[1].removeprefix("msg_")) == [lost[1]]
    middle = (await client.get(f"/v1/webhooks/deliveries/{lost[1]}")).json()["created_at"]
    assert await ids(client, status="given_up", created_after=middle) == [lost[2], lost[1]]
    assert await ids(client, status="given_up", created_before=middle) == [lost[0]]
    assert set(await ids(client)) == {*lost, delivered}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "lost"),
        ("created_after", "yesterday"),
        ("created_after", "2026-01-02T03:04:05"),
        ("created_before", "1767323045"),
        ("created_before", "0001-01-01T00:00:00+14:00"),
    ],
)
async def test_a_filter_that_is_none_is_refused(client: httpx.AsyncClient, name: str, value: str) -> None:
    answer = await client.get("/v1/webhooks/deliveries", params={name: value})
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, name)


# --- sent again -------------------------------------------------------------------------------------------------------


async def test_a_replay_after_it_was_given_up_arrives_under_the_same_id(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, receiver: ScriptedReceiver, sender: None
) -> None:
    receiver.answer([410])
    id = await owe(client, scene, caller, receiver.url)
    await until(client, id, status="given_up")
    answer = await client.post(f"/v1/webhooks/deliveries/{id}/replay")
    assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (202, id, "pending")
    delivery = await until(client, id, status="delivered")
    assert [attempt["http_status"] for attempt in delivery["attempts"]] == [410, 200]
    assert [got.headers["webhook-id"] for got in receiver.received] == [id, id]
    assert receiver.received[0].body == receiver.received[1].body


async def test_what_was_delivered_is_sent_again_on_demand(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, receiver: ScriptedReceiver, sender: None
) -> None:
    id = await owe(client, scene, caller, receiver.url)
    await until(client, id, status="delivered")
    await client.post(f"/v1/webhooks/deliveries/{id}/replay")
    await until(client, id, status="delivered", attempt_count=2)
    assert len(receiver.received) == 2


async def test_recovery_sends_all_that_was_lost_since_then(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, receiver: ScriptedReceiver, sender: None
) -> None:
    before = rfc3339(now() - timedelta(minutes=1))
    receiver.answer([410, 410])
    lost = [await owe(client, scene, caller, receiver.url) for _ in range(2)]
    for id in lost:
        await until(client, id, status="given_up")
    answer = await client.post("/v1/webhooks/deliveries/recover", json={"since": before})
    assert (answer.status_code, answer.json()) == (202, {"recovered": 2})
    for id in lost:
        await until(client, id, status="delivered")


async def test_recovery_keeps_to_its_time_and_to_the_callers_own(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, resources: Resources, scene: Scene, caller: Caller
) -> None:
    lost = await insert_deliveries(resources, scene, caller, 3, "given_up")
    since = rfc3339(now() - 2 * DAY)
    theirs = await stranger.post("/v1/webhooks/deliveries/recover", json={"since": since})
    assert theirs.json() == {"recovered": 0}
    assert len(await ids(client, status="given_up")) == 3
    last = (await client.get(f"/v1/webhooks/deliveries/{lost[2]}")).json()["created_at"]
    answer = await client.post("/v1/webhooks/deliveries/recover", json={"since": since, "until": last})
    assert answer.json() == {"recovered": 2}
    assert await ids(client, status="given_up") == [lost[2]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"since": "2026-01-02"}, "since"),
        ({"since": 1767323045}, "since"),
        ({"since": None}, "since"),
        ({"since": "2026-01-02T03:04:05Z", "until": "later"}, "until"),
        ({"since": "2026-01-02T03:04:05Z", "all": True}, ""),
    ],
)
async def test_recovery_without_a_moment_is_refused(client: httpx.AsyncClient, body: dict, field: str) -> None:
    answer = await client.post("/v1/webhooks/deliveries/recover", json=body)
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, field)


async def test_anothers_deliveries_do_not_exist(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, resources: Resources, scene: Scene, caller: Caller
) -> None:
    [id] = await insert_deliveries(resources, scene, caller, 1, "given_up")
    for answer in (
        await stranger.get(f"/v1/webhooks/deliveries/{id}"),
        await stranger.post(f"/v1/webhooks/deliveries/{id}/replay"),
        await client.get("/v1/webhooks/deliveries/msg_nothing"),
        await client.post("/v1/webhooks/deliveries/msg_nothing/replay"),
    ):
        assert answer.status_code == 404
    assert await ids(stranger) == []
    assert await ids(stranger, prediction=id.removeprefix("msg_")) == []
    assert await ids(client, status="given_up") == [id]


# --- the secret -------------------------------------------------------------------------------------------------------


async def test_a_rotated_secret_and_the_one_before_both_verify(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, receiver: ScriptedReceiver, sender: None
) -> None:
    answer = await client.post("/v1/webhooks/default/secret/rotate")
    assert answer.status_code == 200
    rotated = answer.json()
    assert rotated.keys() == {"key", "previous_expires_at"}
    tomorrow = now() + DAY
    assert rfc3339(tomorrow - timedelta(minutes=5)) < rotated["previous_expires_at"] < rfc3339(tomorrow)
    assert (await client.get("/v1/webhooks/default/secret")).json() == {"key": rotated["key"]}
    await owe(client, scene, caller, receiver.url)
    [got] = await receiver.until(1)
    for secret in (caller.webhook_secret, rotated["key"]):
        assert Webhook(secret).verify(got.body, dict(got.headers)) == got.prediction


async def test_a_second_rotation_and_time_end_what_came_before(
    client: httpx.AsyncClient,
    resources: Resources,
    scene: Scene,
    caller: Caller,
    receiver: ScriptedReceiver,
    sender: None,
) -> None:
    second, third = [(await client.post("/v1/webhooks/default/secret/rotate")).json()["key"] for _ in range(2)]
    await owe(client, scene, caller, receiver.url)
    [got] = await receiver.until(1)
    assert Webhook(second).verify(got.body, dict(got.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(caller.webhook_secret).verify(got.body, dict(got.headers))
    over = update(Account).where(Account.id == caller.id).values(previous_webhook_secret_until=func.now())
    async with resources.database.transaction() as tx:
        await tx.execute(over)
    await owe(client, scene, caller, receiver.url)
    [_, got] = await receiver.until(2)
    assert len(got.headers["webhook-signature"].split(" ")) == 1
    assert Webhook(third).verify(got.body, dict(got.headers))


async def test_a_rotation_is_ones_own(client: httpx.AsyncClient, stranger: httpx.AsyncClient, caller: Caller) -> None:
    await stranger.post("/v1/webhooks/default/secret/rotate")
    assert (await client.get("/v1/webhooks/default/secret")).json() == {"key": caller.webhook_secret}
