"""Webhooks, to a real receiver: what is sent, when it is sent again, and whom the sender refuses to call."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import structlog
from sqlalchemy import Row, func, select, update
from standardwebhooks import Webhook, WebhookVerificationError

from core import catalog, predictions, webhooks, wire
from core.catalog import Runnable
from core.hardware import CPU
from core.ids import new_id
from core.lifecycle import DeliveryStatus, VersionStatus, WebhookEvent
from core.people import accounts
from core.predictions import Request
from core.redis import DELIVERY_BELL, ring
from core.resources import Resources
from core.tables import Prediction, WebhookAttempt, WebhookDelivery
from tests.support.scripted_receiver import SILENCE, ScriptedReceiver, receiving
from worker import deliveries
from worker.deliveries import Sender, public_socket, storable

#: Far more than the sender's own naps.
PATIENCE_SECONDS = 30.0


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def sending(resources: Resources, **settings: Any) -> AsyncIterator[None]:
    stop = asyncio.Event()
    sender = Sender(replace(resources, settings=resources.settings.model_copy(update=settings)))
    running = asyncio.create_task(sender.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def create(resources: Resources, url: str | None, events: list[str] | None = None) -> Row:
    """A waiting prediction of an account of its own."""
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, f"user-{new_id()}", "Some User")
        await catalog.put_hardware(tx, CPU.sku, CPU.name, CPU.price_nanos_per_second)
        runnable = Runnable(new_id(), "some/model", CPU.sku, None, VersionStatus.READY)
        request = Request(account.id, runnable, {"text": "é"}, webhook_url=url, webhook_events=events)
        return await predictions.create(tx, request)


async def end(resources: Resources, row: Row) -> Row:
    async with resources.database.transaction() as tx:
        return await predictions.cancel(tx, row.account_id, row.id)


async def secret_of(resources: Resources, row: Row) -> str:
    async with resources.database.autocommit() as tx:
        return (await accounts.get(tx, row.account_id)).webhook_secret


async def delivery_of(resources: Resources, row: Row) -> Row | None:
    async with resources.database.autocommit() as tx:
        return await tx.first(select(WebhookDelivery).where(WebhookDelivery.prediction_id == row.id))


async def attempts_of(resources: Resources, delivery: Row) -> list[Row]:
    """Oldest first."""
    statement = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery.id).order_by(WebhookAttempt.number)
    async with resources.database.autocommit() as tx:
        return list(await tx.all(statement))


async def recorded(resources: Resources, row: Row, count: int) -> tuple[Row, list[Row]]:
    """The delivery and its attempts, once so many are on record."""
    for _ in range(int(PATIENCE_SECONDS / 0.02)):
        delivery = await delivery_of(resources, row)
        attempts = await attempts_of(resources, delivery) if delivery else []
        if len(attempts) >= count:
            # Asked again: the attempt may have been put on record between the two questions.
            return await delivery_of(resources, row), attempts
        await asyncio.sleep(0.02)
    raise AssertionError(f"There are no {count} attempts on record.")


# --- what is sent -----------------------------------------------------------------------------------------------------


async def test_the_end_is_posted_signed_and_on_record(resources: Resources, receiver: ScriptedReceiver) -> None:
    row = await create(resources, f"{receiver.url}/hook?order=7&x=%20", ["completed"])
    async with sending(resources):
        await end(resources, row)
        [got] = await receiver.until(1)
        delivery, [attempt] = await recorded(resources, row, 1)
    assert got.path == "/hook?order=7&x=%20"
    assert got.headers["content-type"] == "application/json"
    assert Webhook(await secret_of(resources, row)).verify(got.body, dict(got.headers)) == got.prediction
    assert got.headers["webhook-id"] == delivery.id
    assert (delivery.status, delivery.attempts, attempt.number, attempt.http_status) == ("delivered", 1, 1, 200)
    assert delivery.delivered_at is not None
    async with resources.database.autocommit() as tx:
        ended = await predictions.find(tx, row.id)
    assert got.prediction == wire.prediction(resources.settings, ended, None)
    assert got.prediction["webhook_events_filter"] == ["completed"]


async def test_a_changed_body_or_another_secret_does_not_verify(
    resources: Resources, receiver: ScriptedReceiver
) -> None:
    row = await create(resources, receiver.url)
    async with sending(resources):
        await end(resources, row)
        [got] = await receiver.until(1)
    with pytest.raises(WebhookVerificationError):
        Webhook(await secret_of(resources, row)).verify(got.body + b" ", dict(got.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(accounts.new_webhook_secret()).verify(got.body, dict(got.headers))


async def test_after_a_rotation_each_secret_verifies_alone_and_the_new_one_comes_first(
    resources: Resources, receiver: ScriptedReceiver
) -> None:
    row = await create(resources, receiver.url)
    old = await secret_of(resources, row)
    async with resources.database.transaction() as tx:
        new = (await accounts.rotate_webhook_secret(tx, row.account_id)).webhook_secret
    async with sending(resources):
        await end(resources, row)
        [got] = await receiver.until(1)
    signatures = got.headers["webhook-signature"].split(" ")
    assert len(signatures) == 2
    for secret, signature in zip((new, old), signatures, strict=True):
        assert Webhook(secret).verify(got.body, dict(got.headers)) == got.prediction
        alone = {**got.headers, "webhook-signature": signature}
        assert Webhook(secret).verify(got.body, alone) == got.prediction


async def test_logs_name_the_delivery_and_never_its_url_or_its_secret(
    resources: Resources, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(deliveries, "log", structlog.wrap_logger(structlog.PrintLogger(written)))
    url = receiver.url.replace("//", "//somebody:sesame@") + "/hook?key=xyzzy"
    row, lost = await create(resources, url), await create(resources, url.replace("http:", "http:/"))
    async with sending(resources):
        await end(resources, row)
        await end(resources, lost)
        await recorded(resources, lost, 1)
        await recorded(resources, row, 1)
    assert row.id in written.getvalue()
    assert lost.id in written.getvalue()
    for secret in ("sesame", "xyzzy", receiver.url, await secret_of(resources, row)):
        assert secret not in written.getvalue()


async def test_nothing_is_owed_for_what_was_not_asked_for(resources: Resources) -> None:
    for url, events in ((None, None), ("http://127.0.0.1:9/", ["start"]), ("http://127.0.0.1:9/", ["logs", "output"])):
        row = await create(resources, url, events)
        await end(resources, row)
        assert await delivery_of(resources, row) is None


def test_without_a_filter_output_and_the_end_are_wanted() -> None:
    row = Prediction(webhook_url="http://example.com", webhook_events=None)
    assert [event for event in WebhookEvent if webhooks.wants(row, event)] == ["output", "completed"]


async def test_passing_events_are_sent_once_and_owe_nothing(resources: Resources, receiver: ScriptedReceiver) -> None:
    row = await create(resources, receiver.url, ["start"])
    receiver.answer([500])
    async with sending(resources):
        await webhooks.pass_on(resources.redis, row.id, WebhookEvent.START)
        [got] = await receiver.until(1)
        await settled(resources, receiver)
    assert len(receiver.of(row.id)) == 1
    assert Webhook(await secret_of(resources, row)).verify(got.body, dict(got.headers))["status"] == "starting"
    assert await delivery_of(resources, row) is None


async def test_a_passing_event_that_the_end_has_overtaken_is_not_sent(
    resources: Resources, receiver: ScriptedReceiver
) -> None:
    row = await create(resources, receiver.url, ["start", "completed"])
    await end(resources, row)
    await webhooks.pass_on(resources.redis, row.id, WebhookEvent.START)
    async with sending(resources):
        await settled(resources, receiver)
    assert [got.prediction["status"] for got in receiver.of(row.id)] == ["canceled"]


async def test_who_wants_only_the_start_hears_of_it_however_short_the_run(
    resources: Resources, receiver: ScriptedReceiver
) -> None:
    row = await create(resources, receiver.url, ["start"])
    await end(resources, row)
    async with sending(resources):
        await webhooks.pass_on(resources.redis, row.id, WebhookEvent.START)
        await receiver.until(1)
    assert len(receiver.of(row.id)) == 1


# --- when it is sent again --------------------------------------------------------------------------------------------


async def test_a_receiver_that_fails_is_asked_again_with_the_same_id(
    resources: Resources, receiver: ScriptedReceiver
) -> None:
    row = await create(resources, receiver.url)
    receiver.answer([500, 404])
    async with sending(resources):
        await end(resources, row)
        for count in (1, 2):
            delivery, _ = await recorded(resources, row, count)
            await due_now(resources, delivery)
        delivery, attempts = await recorded(resources, row, 3)
    assert [attempt.http_status for attempt in attempts] == [500, 404, 200]
    assert (delivery.status, delivery.attempts) == ("delivered", 3)
    assert {got.headers["webhook-id"] for got in receiver.received} == {delivery.id}
    secret = await secret_of(resources, row)
    assert all(Webhook(secret).verify(got.body, dict(got.headers)) for got in receiver.received)


async def test_a_receiver_that_never_answers_is_asked_again(
    resources: Resources, receiver: ScriptedReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_TIMEOUT", aiohttp.ClientTimeout(total=0.5))
    row = await create(resources, receiver.url)
    receiver.answer([SILENCE])
    async with sending(resources):
        await end(resources, row)
        delivery, [silent] = await recorded(resources, row, 1)
        assert (silent.http_status, delivery.status) == (None, "pending")
        await due_now(resources, delivery)
        delivery, _ = await recorded(resources, row, 2)
    assert delivery.status == "delivered"
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1


async def test_nobody_listening_is_on_record_and_tried_again(resources: Resources) -> None:
    row = await create(resources, "http://127.0.0.1:9/")
    async with sending(resources):
        await end(resources, row)
        delivery, attempts = await recorded(resources, row, 1)
    assert attempts[0].http_status is None
    assert "127.0.0.1:9" in attempts[0].error
    assert delivery.status == "pending"


async def test_after_the_last_try_it_is_given_up_visibly(resources: Resources, receiver: ScriptedReceiver) -> None:
    row = await create(resources, receiver.url)
    await end(resources, row)
    delivery = await delivery_of(resources, row)
    tries = len(webhooks.RETRY_AFTER) + 1
    for number in range(1, tries + 1):
        await due_now(resources, delivery)
        async with resources.database.transaction() as tx:
            [claimed] = [due for due in await webhooks.claim_due(tx, 1000) if due.id == delivery.id]
        async with resources.database.transaction() as tx:
            status = await webhooks.record_attempt(tx, claimed, 503, None, 5)
        assert status == (DeliveryStatus.GIVEN_UP if number == tries else DeliveryStatus.PENDING)
    delivery = await delivery_of(resources, row)
    assert (delivery.status, delivery.delivered_at) == ("given_up", None)
    assert [attempt.number for attempt in await attempts_of(resources, delivery)] == list(range(1, tries + 1))
    await due_now(resources, delivery)
    async with sending(resources):
        await settled(resources, receiver)
    assert receiver.of(row.id) == []


async def test_a_replay_after_it_was_given_up_arrives_under_the_same_id(
    resources: Resources, receiver: ScriptedReceiver
) -> None:
    row = await create(resources, receiver.url)
    receiver.answer([410])
    async with sending(resources):
        await end(resources, row)
        delivery, _ = await recorded(resources, row, 1)
        assert delivery.status == "given_up"
        async with resources.database.transaction() as tx:
            await webhooks.replay(tx, row.account_id, delivery.id)
        delivery, attempts = await recorded(resources, row, 2)
    assert (delivery.status, [attempt.http_status for attempt in attempts]) == ("delivered", [410, 200])
    assert [got.headers["webhook-id"] for got in receiver.received] == [delivery.id] * 2


async def test_what_a_dead_sender_had_claimed_is_due_again(resources: Resources, receiver: ScriptedReceiver) -> None:
    row = await create(resources, receiver.url)
    await end(resources, row)
    async with resources.database.transaction() as tx:
        assert row.id in [due.prediction_id for due in await webhooks.claim_due(tx, 1000)]
    async with resources.database.transaction() as tx:
        assert row.id not in [due.prediction_id for due in await webhooks.claim_due(tx, 1000)]
    await due_now(resources, await delivery_of(resources, row))
    async with sending(resources):
        await receiver.until(1)
        delivery, [attempt] = await recorded(resources, row, 1)
    assert (delivery.status, attempt.number) == ("delivered", 2)


async def test_a_lost_bell_costs_no_more_than_a_nap(resources: Resources, receiver: ScriptedReceiver) -> None:
    async with sending(resources):
        row = await create(resources, receiver.url)
        async with resources.database.transaction() as tx:
            await predictions.cancel(tx, row.account_id, row.id)
            tx._hooks.clear()
        await receiver.until(1)
    assert receiver.received[0].prediction["id"] == row.id


# --- whom it refuses to call ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(resources: Resources, receiver: ScriptedReceiver, moved: int) -> None:
    row = await create(resources, f"{receiver.url}/hook")
    receiver.answer([moved])
    async with sending(resources):
        await end(resources, row)
        delivery, [attempt, *_] = await recorded(resources, row, 1)
    assert (attempt.http_status, delivery.status) == (moved, "pending")
    assert f"redirects to {receiver.url}/elsewhere; redirects are not followed" in attempt.error
    assert "/elsewhere" not in {got.path for got in receiver.received}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "127.1", "2130706433", "0x7f000001", "127.0.0.1."],
)
async def test_private_addresses_are_not_called_however_they_are_spelled(
    resources: Resources, receiver: ScriptedReceiver, host: str
) -> None:
    row = await create(resources, receiver.url.replace("127.0.0.1", host))
    async with sending(resources, allow_private_webhooks=False):
        await end(resources, row)
        delivery, [attempt, *_] = await recorded(resources, row, 1)
    assert receiver.received == []
    assert attempt.http_status is None
    assert "private address" in attempt.error or "canonical" in attempt.error
    assert delivery.status == "pending"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "127.1", "::1"]
    + ["fe80::1%eth0", "fd00::1", "::ffff:10.0.0.1", "::"],
)
def test_no_socket_is_made_for_a_private_address(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises((OSError, ValueError)):
        public_socket((family, socket.SOCK_STREAM, 6, "", (address, 80)))


def test_a_public_address_gets_its_socket() -> None:
    public_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.215.14", 443))).close()


@pytest.mark.parametrize("url", ["http://", "http://[", "http://exa mple/", "http://\u2028/", "https://a:99999/"])
async def test_a_url_that_is_none_is_on_record_and_stops_nothing(
    resources: Resources, receiver: ScriptedReceiver, url: str
) -> None:
    broken, good = await create(resources, url), await create(resources, receiver.url)
    async with sending(resources):
        await end(resources, broken)
        await end(resources, good)
        _, [attempt, *_] = await recorded(resources, broken, 1)
        await receiver.until(1)
    assert (attempt.http_status, bool(attempt.error)) == (None, True)


def test_what_a_receiver_writes_can_be_put_on_record() -> None:
    assert storable("a\x00b\nc\udc80é" + "x" * 1000) == "a\ufffdb\ufffdc\ufffdé" + "x" * 493


async def due_now(resources: Resources, delivery: Row) -> None:
    async with resources.database.transaction() as tx:
        await tx.execute(
            update(WebhookDelivery).where(WebhookDelivery.id == delivery.id).values(next_attempt_at=func.now())
        )
        tx.after_commit(ring, DELIVERY_BELL)


async def settled(resources: Resources, receiver: ScriptedReceiver) -> None:
    """Once a prediction that was owed after all others has been told."""
    last = await create(resources, f"{receiver.url}/last")
    await end(resources, last)
    await recorded(resources, last, 1)
