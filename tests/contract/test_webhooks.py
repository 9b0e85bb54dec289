"""Webhooks of real runs, to a real receiver, verified with the clients' own means."""

from collections.abc import AsyncIterator

import pytest
from standardwebhooks import Webhook

from tests.contract.clients import Script
from tests.support.platform import Platform
from tests.support.scripted_receiver import Received, ScriptedReceiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[ScriptedReceiver]:
    async with receiving() as receiver:
        yield receiver


async def run(
    models: Platform, receiver: ScriptedReceiver, events: list[str] | None, **input: object
) -> list[Received]:
    """What came until the end of one run of a model that talks and yields."""
    filter = {} if events is None else {"webhook_events_filter": events}
    await models.client.create("millrace/chatty", input, webhook=f"{receiver.url}/hook?id=7", **filter)
    return await receiver.until_ended()


async def secret_of(models: Platform) -> str:
    return (await models.client.request("GET", "/webhooks/default/secret")).body["key"]


def statuses(received: list[Received]) -> list[str]:
    return [got.prediction["status"] for got in received]


async def test_the_end_carries_the_whole_prediction_under_a_signature(
    models: Platform, receiver: ScriptedReceiver
) -> None:
    [got] = await run(models, receiver, ["completed"], count=2, sleep_seconds=0)
    verified = Webhook(await secret_of(models)).verify(got.body, dict(got.headers))
    assert verified == await models.client.get(got.prediction["id"])
    assert (verified["status"], verified["output"]) == ("succeeded", ["chunk 0", "chunk 1"])
    assert (verified["webhook"], verified["webhook_events_filter"]) == (f"{receiver.url}/hook?id=7", ["completed"])
    assert got.path == "/hook?id=7"


async def test_every_event_that_is_asked_for_comes_in_order(models: Platform, receiver: ScriptedReceiver) -> None:
    events = ["start", "output", "logs", "completed"]
    received = await run(models, receiver, events, count=4, sleep_seconds=0.5)
    secret = await secret_of(models)
    assert all(Webhook(secret).verify(got.body, dict(got.headers)) for got in received)
    assert statuses(received) == ["processing"] * (len(received) - 1) + ["succeeded"]
    # One for the start, and one each for output and logs at most twice a second.
    assert 3 < len(received) <= 2 + 2 * 5
    lengths = [len(got.prediction["output"] or []) for got in received]
    assert lengths == sorted(lengths)
    assert len({got.headers["webhook-id"] for got in received}) == len(received)


async def test_without_a_filter_output_and_the_end_come(models: Platform, receiver: ScriptedReceiver) -> None:
    received = await run(models, receiver, None, count=3, sleep_seconds=0.6)
    assert len(received) >= 2
    assert all(got.prediction["output"] for got in received)
    assert statuses(received)[-1] == "succeeded"


async def test_the_clients_own_validators_agree(
    models: Platform, receiver: ScriptedReceiver, python1: Script, javascript: Script
) -> None:
    [got] = await run(models, receiver, ["completed"], count=1, sleep_seconds=0)
    secret = await secret_of(models)
    given = {
        "id": got.headers["webhook-id"],
        "timestamp": got.headers["webhook-timestamp"],
        "signature": got.headers["webhook-signature"],
        "body": got.body.decode(),
        "secret": secret,
    }
    assert await python1("validate", **given)
    assert not await python1("validate", **{**given, "body": given["body"] + " "})
    assert await javascript("validate", **given)
    assert not await javascript("validate", **{**given, "body": given["body"] + " "})


async def test_a_failure_is_told_as_well(models: Platform, receiver: ScriptedReceiver) -> None:
    [got] = await run(models, receiver, ["completed"], count=1, sleep_seconds=0, fail=True)
    assert (got.prediction["status"], got.prediction["output"]) == ("failed", ["chunk 0"])
    assert got.prediction["error"] == "ValueError: chatty was asked to fail after 1 chunks"
