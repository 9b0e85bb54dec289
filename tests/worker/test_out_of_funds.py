"""On the whole platform, with a real container: what runs is stopped when its account's money is used up."""

from core.hardware import CPU
from core.money import alerts, credits, folding, prices, wallets
from core.money.pricing import NANOS_PER_DOLLAR
from tests.api.scene import Scene
from tests.support.client import Client
from tests.support.platform import PROJECTS, Platform

CREDIT = 2 * NANOS_PER_DOLLAR


async def test_a_run_is_canceled_when_the_money_is_used_up_and_nothing_new_starts(platform: Platform) -> None:
    database = platform.resources.database
    account = await Scene(platform.resources).caller()
    async with database.transaction() as tx:
        await wallets.set_terms(tx, account.id, credit_limit_nanos=0)
        money = {"amount_nanos": CREDIT, "reason": "test", "actor": "test"}
        await credits.add(tx, account.id, kind=credits.PROMOTIONAL, **money)
    client = Client(platform.api_url, account.token)
    try:
        await _spend_all(platform, client, account.id)
    finally:
        await client.close()


async def _spend_all(platform: Platform, client: Client, account_id: str) -> None:
    database = platform.resources.database
    model = await platform.publish(PROJECTS / "sleeper")
    await platform.wait_ready(model)
    first = await client.create(model, {"text": "Ada", "seconds": 0})
    assert (await client.finished(first["id"]))["status"] == "succeeded"
    async with database.transaction() as tx:
        # From now on a second costs a dollar; what is held at create is still as little as the price before asks for.
        own = {"account_id": account_id, "nanos_per_unit": NANOS_PER_DOLLAR, "created_by": "test"}
        await prices.put(tx, kind=prices.HARDWARE, subject=CPU.sku, **own)

    long = await client.create(model, {"seconds": 600})
    ended = await client.finished(long["id"])

    assert ended["status"] == "canceled"
    assert "insufficient_funds" in ended["error"]
    assert ended["metrics"]["predict_time"] >= CREDIT / NANOS_PER_DOLLAR * 0.9
    async with database.transaction() as tx:
        await folding.fold(tx, account_id)
        wallet = await wallets.get(tx, account_id)
    assert (wallet.balance_nanos, wallet.held_nanos) == (0, 0)
    refused = await client.request("POST", "/predictions", {"version": model, "input": {}})
    assert refused.status == 402
    assert "Insufficient credit" in refused.body
    async with database.autocommit() as tx:
        [alert] = await alerts.unseen(tx, account_id)
    assert (alert.kind, alert.details) == ("insufficient_funds", {"prediction_id": long["id"]})
