"""Money over the API: an account reads its own, an admin of the server moves it, and nothing moves twice."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from core.clock import now, rfc3339
from core.ids import new_id
from core.money import alerts, by_hand, folding, ledger, refunds
from core.money.pricing import NANOS_PER_DOLLAR
from core.resources import Resources
from core.settings import Settings
from core.tables import Account
from tests.api.conftest import client_of
from tests.api.scene import Caller, Scene
from tests.api.test_usage import table

SECOND = 1_000_000
CPU_NANOS = 100_000


@pytest.fixture
async def operator(scene: Scene, resources: Resources) -> Caller:
    caller = await scene.caller()
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == caller.id).values(is_admin=True))
    return caller


@pytest.fixture
async def admin(api: Settings, operator: Caller) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks for an admin of the server."""
    async with client_of(api, operator.token) as client:
        yield client


async def give(admin: httpx.AsyncClient, caller: Caller, amount: str, **more: Any) -> dict[str, Any]:
    body = {"account": caller.username, "amount": amount, "kind": "paid", "reason": "bank transfer 17"} | more
    answer = await admin.post("/v1/billing/credits", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def wallet(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/v1/billing/wallet")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def run(client: httpx.AsyncClient, scene: Scene, caller: Caller, micros: int = SECOND) -> str:
    body = {"version": (await scene.publish(caller)).version, "input": {"text": "Ada"}}
    answer = await client.post("/v1/predictions", json=body)
    assert answer.status_code == 201, answer.text
    await scene.finish(await scene.start(answer.json()["id"]), "hello", micros=micros)
    return answer.json()["id"]


# --- what an account has ----------------------------------------------------------------------------------------------


async def test_a_new_wallet_is_empty_and_without_limit(client: httpx.AsyncClient, caller: Caller) -> None:
    assert await wallet(client) == {
        "account": caller.username,
        "balance_nanos": 0,
        "balance": "0.000000000",
        "held_nanos": 0,
        "held": "0.000000000",
        "spendable_nanos": None,
        "spendable": None,
        "terms": {
            "credit_limit_nanos": None,
            "credit_limit": None,
            "low_balance_nanos": None,
            "low_balance": None,
            "when_empty": "stop",
        },
        "webhook": None,
        "alerts": [],
    }


async def test_credit_is_money_with_its_own_conditions(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, operator: Caller, caller: Caller
) -> None:
    expires = rfc3339(now() + timedelta(days=30))
    given = await give(admin, caller, "12.5", kind="promotional", expires_at=expires, reason="welcome")
    [credit] = (await client.get("/v1/billing/credits")).json()
    assert credit == given
    assert (credit["amount_nanos"], credit["remaining"]) == (12_500_000_000, "12.500000000")
    assert (credit["priority"], credit["expires_at"], credit["actor"]) == (50, expires, operator.username)
    assert (await wallet(client))["balance"] == "12.500000000"


async def test_the_ledger_says_what_each_movement_was_about(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    credit = await give(admin, caller, "1")
    prediction = await run(client, scene, caller)
    entries = (await client.get("/v1/billing/ledger")).json()["results"]
    assert [(entry["kind"], entry["amount_nanos"], entry["counterpart"], entry["about"]) for entry in entries] == [
        ("usage", -CPU_NANOS, "revenue:usage", {"type": "prediction", "id": prediction}),
        ("top_up", NANOS_PER_DOLLAR, "cash:by_hand", {"type": "credit", "id": credit["id"]}),
    ]
    only = (await client.get("/v1/billing/ledger", params={"kind": "top_up"})).json()["results"]
    assert only == entries[1:]
    rows = await table(client, "/v1/billing/ledger.csv")
    assert [(row["kind"], row["amount"], row["about_id"]) for row in rows] == [
        ("top_up", "1.000000000", credit["id"]),
        ("usage", "-0.000100000", prediction),
    ]


async def test_an_account_reads_its_own_money_only(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, admin: httpx.AsyncClient, caller: Caller
) -> None:
    await give(admin, caller, "1")
    for path in ("wallet", "credits", "ledger", "ledger.csv", "limits", "alerts"):
        url, asked = f"/v1/billing/{path}", {"account": caller.username}
        assert (await stranger.get(url, params=asked)).status_code == 403
        assert (await admin.get(url, params=asked)).status_code == 200
    assert (await wallet(stranger))["balance_nanos"] == 0
    assert (await stranger.get("/v1/billing/ledger")).json()["results"] == []


# --- what an admin moves ----------------------------------------------------------------------------------------------


async def test_only_admins_of_the_server_move_money(client: httpx.AsyncClient, caller: Caller) -> None:
    money = {"account": caller.username, "amount": "1", "reason": "mine"}
    for path, body in (
        ("credits", money | {"kind": "paid"}),
        ("adjustments", money),
        ("refunds", {"prediction": "x", "reason": "mine"}),
    ):
        answer = await client.post(f"/v1/billing/{path}", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (403, f"{caller.username} is no admin of this server.")
    terms = {"account": caller.username, "credit_limit": None}
    assert (await client.put("/v1/billing/terms", json=terms)).status_code == 403


async def test_the_same_request_again_pays_once(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, caller: Caller
) -> None:
    headers = {"Idempotency-Key": new_id()}
    body = {"account": caller.username, "amount": "5", "kind": "paid", "reason": "cash"}
    first, second = [await admin.post("/v1/billing/credits", json=body, headers=headers) for _ in range(2)]
    assert first.json() == second.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert (await wallet(client))["balance"] == "5.000000000"


async def test_a_request_whose_answer_was_lost_moves_nothing_again(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    """The claim of the key kept its id, and what has that id is returned."""
    id, prediction = new_id(), await run(client, scene, caller)
    async with resources.database.autocommit() as tx:
        usage = await refunds.usage_of(tx, prediction)
    money = {"reason": "twice", "actor": "somebody"}
    for _ in range(2):
        async with resources.database.transaction() as tx:
            given = await by_hand.give(tx, caller.id, id=id, kind="paid", amount_nanos=100, **money)
            taken = await by_hand.take(tx, caller.id, id=f"a{id}", amount_nanos=30, may_owe=True, **money)
            back = await by_hand.refund(tx, usage, id=f"refund:{id}", amount_nanos=7, **money)
    assert (given.amount_nanos, taken.amount_nanos, back.amount_nanos) == (100, -30, 7)
    async with resources.database.autocommit() as tx:
        assert await ledger.balance(tx, ledger.account(caller.id)) == 100 - 30 + 7 - CPU_NANOS


async def test_a_refund_gives_back_no_more_than_was_charged(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    prediction = await run(client, scene, caller)
    body = {"prediction": prediction, "reason": "noise instead of a picture"}
    too_much = await admin.post("/v1/billing/refunds", json=body | {"amount": "0.000100001"})
    assert too_much.status_code == 409
    assert too_much.json()["detail"].endswith("0.000100000 are left to be given back.")
    part = (await admin.post("/v1/billing/refunds", json=body | {"amount": "0.00004"})).json()
    assert (part["kind"], part["amount"], part["about"]["id"]) == ("refund", "0.000040000", prediction)
    rest = (await admin.post("/v1/billing/refunds", json=body)).json()
    assert rest["amount"] == "0.000060000"
    assert (await admin.post("/v1/billing/refunds", json=body)).status_code == 409
    assert (await wallet(client))["balance_nanos"] == 0


async def test_an_adjustment_takes_what_is_there_and_more_only_if_told(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, caller: Caller
) -> None:
    await give(admin, caller, "10")
    body = {"account": caller.username, "amount": "11", "reason": "typed one 1 too many"}
    refused = await admin.post("/v1/billing/adjustments", json=body)
    assert (refused.status_code, "10.000000000 dollars" in refused.json()["detail"]) == (409, True)
    taken = await admin.post("/v1/billing/adjustments", json=body | {"may_owe": True})
    assert (taken.status_code, taken.json()["amount"]) == (201, "-11.000000000")
    assert (await wallet(client))["balance"] == "-1.000000000"


async def test_prepaid_without_money_is_refused_and_told_what_to_do(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada"}}
    assert (await client.post("/v1/predictions", json=body)).status_code == 201
    terms = {"account": caller.username, "credit_limit": "0", "low_balance": "2"}
    answer = await admin.put("/v1/billing/terms", json=terms)
    assert (answer.status_code, answer.json()["low_balance"]) == (200, "2.000000000")
    refused = await client.post("/v1/predictions", json=body)
    assert refused.status_code == 402
    assert "Add credit, or ask the administrator of this server to raise the limit" in " ".join(
        refused.json()["detail"].split()
    )
    await give(admin, caller, "1")
    assert (await client.post("/v1/predictions", json=body)).status_code == 201
    state = await wallet(client)
    assert (state["terms"]["credit_limit_nanos"], state["held_nanos"] > 0) == (0, True)
    assert state["spendable_nanos"] == state["balance_nanos"] - state["held_nanos"]


@pytest.mark.parametrize(
    ("amount", "sentence"),
    [
        ("0", "Must be more than 0"),
        ("0.000", "Must be more than 0"),
        ("-1", "Must not be negative"),
        ("1000000000000", "Must be less than 1000000000 dollars"),
        ("1000000000", "Must be less than 1000000000 dollars"),
        ("0.0000000001", "finer than a nanodollar"),
        *(
            (text, "Must be an amount of dollars like 12.50")
            for text in ("1e400", "NaN", "1,5", "", " 1", "١", "1.", "∞")
        ),
        (12.5, "Must be dollars in a string"),
        (12, "Must be dollars in a string"),
        (None, "Must be dollars in a string"),
    ],
)
async def test_what_is_no_amount_is_answered_with_a_sentence(
    admin: httpx.AsyncClient, caller: Caller, amount: Any, sentence: str
) -> None:
    body = {"account": caller.username, "amount": amount, "kind": "paid", "reason": "a slip"}
    answer = await admin.post("/v1/billing/credits", json=body)
    assert answer.status_code == 422
    [field] = answer.json()["invalid_fields"]
    assert (field["field"], sentence in field["description"]) == ("amount", True)


async def test_the_largest_amount_is_kept_exactly(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, caller: Caller
) -> None:
    await give(admin, caller, "999999999.999999999")
    assert Decimal((await wallet(client))["balance"]) == Decimal("999999999.999999999")


@pytest.mark.parametrize(
    ("path", "body", "field", "sentence"),
    [
        (
            "credits",
            {"account": "nobody", "amount": "1", "kind": "paid", "reason": "x"},
            "account",
            "no account nobody",
        ),
        ("adjustments", {"account": "nobody", "amount": "1", "reason": "x"}, "account", "no account nobody"),
        ("refunds", {"prediction": "nothing", "reason": "x"}, "prediction", "has not been charged"),
    ],
)
async def test_what_is_not_there_is_named(
    admin: httpx.AsyncClient, path: str, body: dict[str, str], field: str, sentence: str
) -> None:
    answer = await admin.post(f"/v1/billing/{path}", json=body)
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert (error["pointer"], sentence in error["detail"]) == (f"/{field}", True)


async def test_a_movement_without_a_reason_is_refused(admin: httpx.AsyncClient, caller: Caller) -> None:
    body = {"account": caller.username, "amount": "1", "kind": "paid", "reason": "  "}
    assert (await admin.post("/v1/billing/credits", json=body)).status_code == 422
    late = body | {"reason": "late", "expires_at": "2020-01-01T00:00:00Z"}
    answer = await admin.post("/v1/billing/credits", json=late)
    assert (answer.status_code, answer.json()["detail"]) == (422, "Credit that has expired already is none.")


# --- limits and alerts ------------------------------------------------------------------------------------------------


async def test_a_limit_stops_what_is_new_and_its_owner_is_told(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    made = await client.post("/v1/billing/limits", json={"scope": "account", "limit": "0.0001"})
    assert made.status_code == 201, made.text
    await run(client, scene, caller, 2 * SECOND)
    async with resources.database.transaction() as tx:
        await folding.fold(tx, caller.id)
    [limit] = (await client.get("/v1/billing/limits")).json()
    assert (limit["id"], limit["spent"], limit["limit"]) == (made.json()["id"], "0.000200000", "0.000100000")
    assert "monthly spend limit of 0.000100000 dollars has been reached" in await refusal(client, scene, caller)
    told = (await client.get("/v1/billing/alerts")).json()["results"]
    assert sorted(alert["details"]["threshold"] for alert in told) == [50, 80, 100]
    seen = await client.post(f"/v1/billing/alerts/{told[0]['id']}/seen")
    assert (seen.status_code, seen.json()["seen_at"] is not None) == (200, True)
    assert len((await wallet(client))["alerts"]) == 2
    assert len((await client.get("/v1/billing/alerts", params={"seen": True})).json()["results"]) == 1
    assert (await client.delete(f"/v1/billing/limits/{limit['id']}")).status_code == 204
    assert (await client.delete(f"/v1/billing/limits/{limit['id']}")).status_code == 404
    assert (await client.get("/v1/billing/limits")).json() == []


async def refusal(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> str:
    """The sentence of the 402 that comes within a second or so: limits are remembered so long."""
    body = {"version": (await scene.publish(caller)).version, "input": {"text": "Ada"}}
    for _ in range(100):
        answer = await client.post("/v1/predictions", json=body)
        if answer.status_code == 402:
            return answer.json()["detail"]
        await asyncio.sleep(0.1)
    raise AssertionError("Nothing was refused.")


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"scope": "token", "subject": "nothing", "limit": "1"}, 400, "no token with the id 'nothing'"),
        ({"scope": "token", "limit": "1"}, 400, "no token with the id ''"),
        ({"scope": "model", "subject": "name", "limit": "1"}, 400, "Name the model as `owner/name`."),
        ({"scope": "account", "subject": "x", "limit": "1"}, 422, "which `subject` names"),
        ({"scope": "account", "limit": "-1"}, 422, "Must not be negative"),
        ({"scope": "account", "limit": "1", "thresholds": [0]}, 422, "greater than or equal to 1"),
    ],
)
async def test_a_limit_that_is_none_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, sentence: str
) -> None:
    answer = await client.post("/v1/billing/limits", json=body)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text


async def test_nobody_touches_the_limits_and_alerts_of_others(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, caller: Caller, resources: Resources
) -> None:
    made = (await client.post("/v1/billing/limits", json={"scope": "account", "limit": "1"})).json()
    async with resources.database.transaction() as tx:
        await alerts.tell(tx, caller.id, "low_balance", "Little is left.", {}, id=(alert := new_id()))
    assert (await stranger.delete(f"/v1/billing/limits/{made['id']}")).status_code == 404
    assert (await stranger.post(f"/v1/billing/alerts/{alert}/seen")).status_code == 404
    assert len((await wallet(client))["alerts"]) == 1


async def test_alerts_are_owed_to_the_billing_webhook(
    client: httpx.AsyncClient, caller: Caller, resources: Resources
) -> None:
    url = "http://127.0.0.1:9/alerts"
    assert (await client.put("/v1/billing/webhook", json={"url": url})).json() == {"url": url}
    assert (await wallet(client))["webhook"] == url
    async with resources.database.transaction() as tx:
        await alerts.tell(tx, caller.id, "low_balance", "Little is left.", {})
    [delivery] = (await client.get("/v1/webhooks/deliveries")).json()["results"]
    assert (delivery["event"], delivery["prediction"], delivery["url"]) == ("billing.alert", None, url)
    one = (await client.get(f"/v1/webhooks/deliveries/{delivery['id']}")).json()
    assert one["attempts"] == []
    assert (await client.put("/v1/billing/webhook", json={"url": None})).json() == {"url": None}
    for wrong in ("ftp://x", "javascript:alert(1)", "https://Ï", "https://", "https://a b", 7):
        assert (await client.put("/v1/billing/webhook", json={"url": wrong})).status_code == 422
