"""Paying by card over the api: who may, what is refused, and that Stripe's events need Stripe's signature only."""

import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from core.ids import new_id
from core.people import tokens
from core.people.tokens import Scope
from core.resources import Resources
from core.settings import Settings
from tests.api.conftest import client_of
from tests.api.scene import Caller
from tests.api.serving import serving
from tests.support.paying import Till, dollars, open_till, settings_for

EVENTS = "/v1/billing/events/stripe"
TOP_UPS = "/v1/billing/top-ups"
METHOD = "/v1/billing/payment-method"


@pytest.fixture(scope="module")
async def till(resources: Resources) -> AsyncIterator[Till]:
    async with open_till(resources) as till:
        yield till


@pytest.fixture(scope="module")
def paying_api(settings: Settings, till: Till) -> Iterator[Settings]:
    with serving(settings_for(settings, till.stripe)) as served:
        yield served


@pytest.fixture
async def client(paying_api: Settings, caller: Caller) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(paying_api, caller.token) as client:
        yield client


@pytest.fixture
async def stripe(paying_api: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(paying_api, None) as client:
        yield client


async def tell(stripe: httpx.AsyncClient, till: Till, event: dict) -> httpx.Response:
    body, signature = till.stripe.signed(event)
    return await stripe.post(EVENTS, content=body, headers={"Stripe-Signature": signature})


async def pay(client: httpx.AsyncClient, stripe: httpx.AsyncClient, till: Till, amount: str) -> dict:
    """A top-up that has been paid, and told."""
    top_up = (await client.post(TOP_UPS, json={"amount": amount})).json()
    seen = len(till.stripe.events)
    till.stripe.pay(top_up["url"].rpartition("/")[2])
    for event in till.stripe.events[seen:]:
        assert (await tell(stripe, till, event)).status_code == 204
    return top_up


async def test_a_top_up_is_paid_on_stripes_page_and_shown_as_it_goes(
    client: httpx.AsyncClient, stripe: httpx.AsyncClient, till: Till, paying_api: Settings
) -> None:
    answer = await client.post(TOP_UPS, json={"amount": "25.5", "success_path": "/account/billing?paid=1"})
    assert answer.status_code == 201, answer.text
    top_up = answer.json()
    assert (top_up["status"], top_up["amount"], top_up["amount_nanos"]) == ("pending", "25.50", dollars(25.5))
    session = till.stripe.objects[top_up["url"].rpartition("/")[2]]
    assert session["success_url"] == f"{paying_api.url}/account/billing?paid=1"
    till.stripe.pay(session["id"])
    for event in till.stripe.events[-2:] * 3:
        assert (await tell(stripe, till, event)).status_code == 204
    shown = (await client.get(f"{TOP_UPS}/{top_up['id']}")).json()
    assert (shown["status"], shown["completed_at"] is not None, "url" in shown) == ("succeeded", True, False)
    listed = (await client.get(TOP_UPS)).json()
    assert listed["results"] == [shown]
    method = (await client.get(METHOD)).json()
    assert method == {
        "provider": "stripe",
        "label": "visa 4242",
        "recharge_below": None,
        "recharge_to": None,
        "paused_until": None,
    }


async def test_the_same_request_again_is_the_same_top_up(client: httpx.AsyncClient, till: Till) -> None:
    key = {"Idempotency-Key": new_id()}
    first, second = [await client.post(TOP_UPS, json={"amount_nanos": dollars(5)}, headers=key) for _ in range(2)]
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"


async def test_a_request_that_stripe_left_unanswered_may_be_made_again(client: httpx.AsyncClient, till: Till) -> None:
    key, body = {"Idempotency-Key": new_id()}, {"amount": "5"}
    await client.post(TOP_UPS, json=body)
    till.stripe.lost_answers = 2
    refused = await client.post(TOP_UPS, json=body, headers=key)
    assert (refused.status_code, till.stripe.lost_answers) == (503, 0)
    assert "Nothing is charged twice" in refused.json()["detail"]
    sessions = len(till.stripe.of("checkout.session"))
    assert (await client.post(TOP_UPS, json=body, headers=key)).status_code == 201
    assert len(till.stripe.of("checkout.session")) == sessions


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"amount": "25", "amount_nanos": dollars(25)},
        {"amount": 25},
        {"amount": "4.99"},
        {"amount": "10000.01"},
        {"amount": "5.001"},
        {"amount": "-5"},
        {"amount": "1e3"},
        {"amount": "٥٥"},
        {"amount_nanos": dollars(5) + 1},
        {"amount_nanos": 10**30},
        {"amount": "25", "success_path": "https://elsewhere.example/"},
        {"amount": "25", "success_path": "//elsewhere.example/"},
        {"amount": "25", "success_path": "/\\elsewhere.example/"},
        {"amount": "25", "cancel_path": "/a\nb"},
        {"amount": "25", "cents": 1},
    ],
)
async def test_what_is_no_top_up_is_refused(client: httpx.AsyncClient, till: Till, body: dict) -> None:
    asked = len(till.stripe.requests)
    assert (await client.post(TOP_UPS, json=body)).status_code == 422
    assert len(till.stripe.requests) == asked


async def test_recharging_is_set_shown_and_switched_off(
    client: httpx.AsyncClient, stripe: httpx.AsyncClient, till: Till
) -> None:
    wanted = {"recharge_below": "5", "recharge_to": "50"}
    assert set((await client.get(METHOD)).json().values()) == {None}
    assert (await client.put(f"{METHOD}/recharge", json=wanted)).status_code == 409
    await pay(client, stripe, till, "5")
    shown = await client.put(f"{METHOD}/recharge", json=wanted)
    assert shown.status_code == 200, shown.text
    assert (shown.json()["recharge_below"], shown.json()["recharge_to"]) == ("5.00", "50.00")
    too_little = await client.put(f"{METHOD}/recharge", json={"recharge_below": "4.99", "recharge_to": "50"})
    assert (too_little.status_code, "5 dollars" in too_little.json()["detail"]) == (422, True)
    assert (await client.delete(f"{METHOD}/recharge")).status_code == 204
    assert (await client.get(METHOD)).json()["recharge_below"] is None
    assert (await client.delete(METHOD)).status_code == 204
    assert (await client.get(METHOD)).json()["label"] is None
    assert (await client.delete(METHOD)).status_code == 204


async def test_a_token_that_reads_the_bill_moves_no_money(
    paying_api: Settings, resources: Resources, caller: Caller
) -> None:
    async with resources.database.transaction() as tx:
        _, token = await tokens.create(
            tx, new_id(), caller.id, "a", [Scope.BILLING, Scope.WRITE, Scope.RUN, Scope.READ]
        )
    async with client_of(paying_api, token) as client:
        for method, path in (
            ("POST", TOP_UPS),
            ("DELETE", METHOD),
            ("PUT", f"{METHOD}/recharge"),
            ("DELETE", f"{METHOD}/recharge"),
        ):
            assert (await client.request(method, path)).status_code == 403, path
        assert (await client.get(TOP_UPS)).status_code == 200


async def test_nobody_sees_the_top_ups_of_another(
    client: httpx.AsyncClient, paying_api: Settings, scene, stripe: httpx.AsyncClient, till: Till
) -> None:
    top_up = await pay(client, stripe, till, "5")
    async with client_of(paying_api, (await scene.caller()).token) as stranger:
        assert (await stranger.get(f"{TOP_UPS}/{top_up['id']}")).status_code == 404
        assert (await stranger.get(TOP_UPS)).json()["results"] == []
        assert set((await stranger.get(METHOD)).json().values()) == {None}


async def test_events_need_stripes_signature_and_nothing_else(stripe: httpx.AsyncClient, till: Till) -> None:
    event = {"id": "evt_x", "object": "event", "type": "some.new.type", "data": {"object": {"object": "thing"}}}
    assert (await tell(stripe, till, event)).status_code == 204
    body, signature = till.stripe.signed(event)
    for headers in ({}, {"Stripe-Signature": "t=1,v1=0"}, {"Stripe-Signature": signature[:-1] + "0x"}):
        refused = await stripe.post(EVENTS, content=body, headers=headers)
        assert (refused.status_code, "signed" in refused.json()["detail"]) == (400, True)
    for content in (b"", b"{}", b"\xff", json.dumps({"id": "evt"}).encode()):
        assert (await stripe.post(EVENTS, content=content, headers={"Stripe-Signature": "a"})).status_code == 400
    assert (await stripe.post(EVENTS, content=b" " * 600_000)).status_code == 413


async def test_an_event_that_stripe_cannot_be_asked_about_is_sent_again(
    client: httpx.AsyncClient, stripe: httpx.AsyncClient, till: Till
) -> None:
    top_up = (await client.post(TOP_UPS, json={"amount": "5"})).json()
    till.stripe.pay(top_up["url"].rpartition("/")[2])
    till.stripe.refusals = 2
    assert (await tell(stripe, till, till.stripe.events[-1])).status_code == 503
    assert (await tell(stripe, till, till.stripe.events[-1])).status_code == 204
    assert (await client.get(f"{TOP_UPS}/{top_up['id']}")).json()["status"] == "succeeded"


async def test_without_a_key_every_entry_says_so(api: Settings, caller: Caller) -> None:
    async with client_of(api, caller.token) as client:
        for method, path, body in (
            ("POST", TOP_UPS, {"amount": "25"}),
            ("PUT", f"{METHOD}/recharge", {"recharge_below": "5", "recharge_to": "50"}),
            ("DELETE", METHOD, None),
        ):
            answer = await client.request(method, path, json=body)
            assert (answer.status_code, "MILLRACE_STRIPE_SECRET_KEY" in answer.json()["detail"]) == (409, True), path
        # Stripe keeps what it has to say until there is somebody to hear it.
        answer = await client.post(EVENTS, content=b"{}")
        assert (answer.status_code, "MILLRACE_STRIPE_SECRET_KEY" in answer.json()["detail"]) == (503, True)
        assert (await client.get(TOP_UPS)).json()["results"] == []
