"""Prices: what an account pays now, and the book that an admin of the server adds to."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from core import catalog
from core.clock import now, rfc3339
from core.ids import new_id
from core.resources import Resources
from core.settings import Settings
from core.tables import Account
from tests.api.conftest import client_of
from tests.api.scene import Caller, Scene

LIST_NANOS = 1_000_000


@pytest.fixture
async def admin(api: Settings, scene: Scene, resources: Resources) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks for an admin of the server."""
    caller = await scene.caller()
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == caller.id).values(is_admin=True))
    async with client_of(api, caller.token) as client:
        yield client


@pytest.fixture
async def sku(resources: Resources) -> str:
    """A Hardware of the test's own, which costs a tenth of a cent a second."""
    name = f"gpu-{new_id()}"
    async with resources.database.transaction() as tx:
        await catalog.put_hardware(tx, name, name, LIST_NANOS)
    return name


async def put(admin: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await admin.post("/v1/prices", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def price_of(client: httpx.AsyncClient, subject: str, **parameters: str) -> dict[str, Any] | None:
    answer = await client.get("/v1/prices", params=parameters)
    assert answer.status_code == 200, answer.text
    return next((price for price in answer.json() if price["subject"] == subject), None)


async def test_hardware_has_a_list_price_by_the_second(client: httpx.AsyncClient, sku: str) -> None:
    price = await price_of(client, sku)
    assert price is not None
    assert (price["id"], price["kind"], price["metric"]) == (f"hardware:{sku}", "hardware", "second")
    assert (price["price"], price["nanos_per_unit"], price["is_own"]) == ("0.001000000", LIST_NANOS, False)


async def test_a_price_of_ones_own_goes_before_the_list_price(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, admin: httpx.AsyncClient, caller: Caller, sku: str
) -> None:
    step = {"above": 3600, "price": "0.0004"}
    own = {"kind": "hardware", "subject": sku, "price": "0.0005", "account": caller.username}
    made = await put(admin, **own, free_units=60, steps=[step], reason="a friend")
    price = await price_of(client, sku)
    assert price is not None
    assert (price["id"], price["price"], price["is_own"], price["free_units"]) == (made["id"], "0.000500000", True, 60)
    assert price["steps"] == [{"above": 3600, "nanos_per_unit": 400_000, "price": "0.000400000"}]
    listed = await price_of(stranger, sku)
    assert listed is not None
    assert listed["price"] == "0.001000000"
    assert (await price_of(admin, sku, account=caller.username)) == price


async def test_without_a_price_of_ones_own_the_list_price_counts_again(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, caller: Caller, sku: str
) -> None:
    own = {"kind": "hardware", "subject": sku, "account": caller.username}
    await put(admin, **own, price="0.0005")
    await put(admin, **own, price=None)
    price = await price_of(client, sku)
    assert price is not None
    assert price["price"] == "0.001000000"


async def test_a_price_to_come_is_in_the_book_and_not_paid_yet(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, sku: str
) -> None:
    later = rfc3339(now() + timedelta(days=1))
    made = await put(admin, kind="hardware", subject=sku, price="0.002", effective_from=later)
    assert made["effective_from"] == later
    price = await price_of(client, sku)
    assert price is not None
    assert price["price"] == "0.001000000"
    book = (await admin.get("/v1/prices/book", params={"kind": "hardware", "subject": sku})).json()
    assert [line["price"] for line in book] == ["0.002000000", "0.001000000"]
    assert book[0] == made


async def test_a_model_is_priced_by_what_it_makes_and_only_who_sees_it_sees_that(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, admin: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    secret = (await scene.publish(caller, visibility="private")).model
    shown = (await scene.publish(caller)).model
    for model in (secret, shown):
        await put(admin, kind="model", subject=model, metric="image_count", price="0.01")
    for model in (secret, shown):
        price = await price_of(client, model)
        assert price is not None
        assert (price["metric"], price["price"]) == ("image_count", "0.010000000")
    assert await price_of(stranger, shown) is not None
    assert await price_of(stranger, secret) is None


async def test_what_hardware_costs_is_nobodys_to_see_but_an_admins(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, sku: str
) -> None:
    made = await put(admin, kind="cost", subject=sku, price="1.89", reason="rent")
    assert (made["metric"], made["account"]) == ("hour", None)
    assert all(price["kind"] != "cost" for price in (await client.get("/v1/prices")).json())
    assert (await client.get("/v1/prices/book")).status_code == 403
    assert (await client.post("/v1/prices", json={"kind": "cost", "subject": sku, "price": "0"})).status_code == 403
    [line] = (await admin.get("/v1/prices/book", params={"kind": "cost", "subject": sku})).json()
    assert line == made


async def test_the_same_request_again_sets_one_price(admin: httpx.AsyncClient, sku: str) -> None:
    headers = {"Idempotency-Key": new_id()}
    body = {"kind": "hardware", "subject": sku, "price": "0.003"}
    first, second = [await admin.post("/v1/prices", json=body, headers=headers) for _ in range(2)]
    assert first.json() == second.json()
    book = (await admin.get("/v1/prices/book", params={"subject": sku})).json()
    assert len(book) == 2


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"subject": "gpu-x"}, 422, "There is no hardware gpu-x."),
        ({"metric": "image_count"}, 422, "A price of kind hardware is by the second."),
        ({"kind": "model", "subject": "a/b"}, 422, "Name the metric"),
        ({"price": "1000000.1"}, 422, "A price is between 0 and"),
        ({"price": "1e3"}, 422, "Must be an amount of dollars"),
        ({"price": 0.5}, 422, "dollars in a string"),
        ({"steps": [{"above": 5, "price": "9"}]}, 422, "none may cost more than the price itself"),
        ({"free_units": -1}, 422, "greater than or equal to 0"),
        ({"effective_from": "2020-01-01T00:00:00Z"}, 409, "A price cannot begin in the past"),
        ({"account": "nobody"}, 400, "There is no account nobody."),
        ({"kind": "gift"}, 422, "'hardware', 'model' or 'cost'"),
    ],
)
async def test_a_price_that_is_none_is_refused(
    admin: httpx.AsyncClient, sku: str, change: dict[str, Any], status: int, sentence: str
) -> None:
    body = {"kind": "hardware", "subject": sku, "price": "0.001"} | change
    answer = await admin.post("/v1/prices", json=body)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text
