"""The calling account, its use and its secrets."""

import base64
from datetime import timedelta

import httpx
import pytest

from core.clock import now
from core.money.pricing import amount_nanos
from tests.api.scene import Caller, Scene


async def test_an_account_has_the_documented_shape(client: httpx.AsyncClient, caller: Caller) -> None:
    assert (await client.get("/v1/account")).json() == {
        "type": "user",
        "username": caller.username,
        "name": "Some User",
        "github_url": None,
        "avatar_url": None,
    }


async def test_hardware_is_a_bare_array(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    await scene.publish(caller)
    hardware = (await client.get("/v1/hardware")).json()
    assert {"sku": "cpu", "name": "CPU"} in hardware
    assert all(set(item) == {"sku", "name"} for item in hardware)


async def test_the_webhook_secret_is_ones_own_and_in_standard_base64(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, caller: Caller
) -> None:
    """Clients split it at its underscore, of which the url-safe alphabet may have more."""
    answer = (await client.get("/v1/webhooks/default/secret")).json()
    assert answer == {"key": caller.webhook_secret}
    prefix, _, key = answer["key"].partition("_")
    assert (prefix, len(base64.b64decode(key, validate=True))) == ("whsec", 24)
    assert (await stranger.get("/v1/webhooks/default/secret")).json() != answer


async def test_usage_sums_by_day_model_and_hardware(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    one, other = await scene.publish(caller), await scene.publish(caller)
    runs = [(one, 1_500_001), (one, 250_009), (other, 3)]
    for published, micros in runs:
        body = {"version": published.version, "input": {"text": "Ada"}}
        created = (await client.post("/v1/predictions", json=body)).json()
        await scene.finish(await scene.start(created["id"]), "hello", micros=micros)
    usage = (await client.get("/v1/account/usage")).json()
    amounts = [amount_nanos(micros, 100_000) for _, micros in runs]
    assert amounts == [150_000, 25_000, 0]
    total = sum(amounts)
    assert (usage["total_nanos"], usage["total"], usage["balance_nanos"]) == (total, "0.000175000", -total)
    today = str(now().date())
    assert usage["results"] == [
        {
            "day": today,
            "model": one.model,
            "hardware": "cpu",
            "runs": 2,
            "seconds": 1.75001,
            "amount_nanos": 175_000,
            "amount": "0.000175000",
        },
        {
            "day": today,
            "model": other.model,
            "hardware": "cpu",
            "runs": 1,
            "seconds": 0.000003,
            "amount_nanos": 0,
            "amount": "0.000000000",
        },
    ]
    assert (await stranger.get("/v1/account/usage")).json()["results"] == []


async def test_usage_covers_as_many_days_as_asked(client: httpx.AsyncClient) -> None:
    usage = (await client.get("/v1/account/usage", params={"days": 7})).json()
    today = now().date()
    assert (usage["from"], usage["to"]) == (str(today - timedelta(days=6)), str(today))


@pytest.mark.parametrize("days", ["0", "367", "many", "-1", "1" * 30])
async def test_other_numbers_of_days_are_refused(client: httpx.AsyncClient, days: str) -> None:
    answer = await client.get("/v1/account/usage", params={"days": days})
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "days")
