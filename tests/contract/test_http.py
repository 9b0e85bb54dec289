"""What curl does: create, poll, cancel; and one charge of the right size for each run."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import func, select

from core.hardware import CPU
from core.money import ledger
from core.money.pricing import amount_nanos
from core.tables import LedgerEntry, UsageRecord
from tests.api.scene import Caller, Scene
from tests.support.client import Client
from tests.support.platform import Platform

HELLO = "millrace/hello-world"


@pytest.fixture
async def account(models: Platform) -> Caller:
    return await Scene(models.resources).caller()


@pytest.fixture
async def client(models: Platform, account: Caller) -> AsyncIterator[Client]:
    """Speaks for `account`."""
    client = Client(models.api_url, account.token)
    yield client
    await client.close()


async def test_create_poll_and_read_the_output(client: Client) -> None:
    created = await client.create(HELLO, {"text": "Ada"})
    ended = await client.finished(created["id"])
    assert (ended["status"], ended["output"], ended["error"]) == ("succeeded", "hello Ada", None)


async def test_waiting_answers_with_the_output(client: Client) -> None:
    await client.create(HELLO, {"text": "warm"}, prefer="wait")
    answer = await client.create(HELLO, {"text": "Ada"}, prefer="wait")
    assert (answer["status"], answer["output"]) == ("succeeded", "hello Ada")


async def test_cancel_stops_a_running_model(client: Client) -> None:
    created = await client.create("millrace/misbehaving", {"how": "sleep"})
    await client.until(created["id"], "processing")
    await client.cancel(created["id"])
    ended = await client.finished(created["id"])
    assert ended["status"] == "canceled"
    assert ended["metrics"]["predict_time"] > 0
    assert await client.cancel(created["id"]) == ended


async def test_each_run_is_charged_once_and_to_the_nanodollar(
    account: Caller, client: Client, models: Platform
) -> None:
    creating = [client.create(HELLO, {"text": str(number)}) for number in range(10)]
    created = await asyncio.gather(*creating, client.create("millrace/misbehaving", {"how": "raise"}))
    ended = [await client.finished(prediction["id"]) for prediction in created]
    micros = [round(prediction["metrics"]["predict_time"] * 1e6) for prediction in ended]
    amounts = {
        prediction["id"]: amount_nanos(each, CPU.price_nanos_per_second)
        for prediction, each in zip(ended, micros, strict=True)
    }
    async with models.resources.database.autocommit() as tx:
        rows = await tx.all(select(UsageRecord).where(UsageRecord.account_id == account.id))
        balance = await ledger.balance(tx, ledger.account(account.id))
        ids = [row.id for row in rows]
        entries = await tx.all(select(LedgerEntry).where(LedgerEntry.usage_record_id.in_(ids)))
        whole = await tx.scalar(select(func.sum(LedgerEntry.amount_nanos)))
    assert {row.cause_id: row.amount_nanos for row in rows} == amounts
    assert len(rows) == len(ended) == 11
    assert len(entries) == 22
    assert (balance, whole) == (-sum(amounts.values()), 0)
    usage = (await client.request("GET", "/account/usage")).body
    assert (usage["total_nanos"], usage["balance_nanos"]) == (sum(amounts.values()), balance)
    by_model = {line["model"]: line for line in usage["results"]}
    assert by_model[HELLO]["runs"] == 10
    assert by_model[HELLO]["seconds"] == sum(micros[:10]) / 1e6
    assert by_model["millrace/misbehaving"]["amount_nanos"] == amounts[created[10]["id"]]


async def test_one_account_sees_nothing_of_another(client: Client, models: Platform) -> None:
    mine = await client.create(HELLO, {"text": "secret"}, prefer="wait")
    answer = await models.client.request("GET", f"/predictions/{mine['id']}")
    assert answer.status == 404
