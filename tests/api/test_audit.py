"""The audit log over HTTP: an account reads what touched it, an admin of the server everything."""

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from api.pagination import PAGE_SIZE
from core import catalog
from core.clock import now, rfc3339
from core.hardware import CPU
from core.ids import new_id
from core.people import audit, audit_trail, tokens
from core.people.audit import Actor
from core.people.tokens import Scope
from core.resources import Resources
from core.settings import Settings
from core.tables import Account
from tests.api.conftest import client_of
from tests.api.scene import Caller, Scene


@pytest.fixture
async def admin_account(scene: Scene, resources: Resources) -> Caller:
    caller = await scene.caller()
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == caller.id).values(is_admin=True))
    return caller


@pytest.fixture
async def admin(api: Settings, admin_account: Caller) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(api, admin_account.token) as client:
        yield client


async def events(client: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


async def record(resources: Resources, account_id: str, action: str = "thing.do", count: int = 1) -> None:
    async with resources.database.transaction() as tx:
        for number in range(count):
            await audit.record(tx, action, f"thing:{number}", account_id=account_id)


async def test_who_does_something_over_the_api_is_on_record_with_token_and_address(
    client: httpx.AsyncClient, caller: Caller
) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"}
    made = (await client.post("/v1/tokens", json={"name": "app", "scopes": ["read"]}, headers=forged)).json()
    event = (await events(client))[0]
    mine = next(token for token in (await client.get("/v1/tokens")).json()["results"] if token["name"] == "test")
    assert event | {"number": 0, "at": "", "previous_hash": "", "hash": ""} == {
        "number": 0,
        "at": "",
        "actor": f"{caller.username} via token test ({mine['prefix']}…)",
        "actor_account_id": caller.id,
        "actor_token_id": mine["id"],
        "address": "127.0.0.1",
        "action": "token.create",
        "account_id": caller.id,
        "target": f"token:{made['id']}",
        "before": None,
        "after": {"name": "app", "prefix": made["prefix"], "scopes": ["read"], "expires_at": None},
        "previous_hash": "",
        "hash": "",
    }


async def test_every_change_of_access_and_data_is_on_record(
    client: httpx.AsyncClient, caller: Caller, resources: Resources
) -> None:
    async with resources.database.transaction() as tx:
        await catalog.put_hardware(tx, CPU.sku, CPU.name, CPU.price_nanos_per_second)
    made = (await client.post("/v1/tokens", json={"name": "app"})).json()
    await client.patch(f"/v1/tokens/{made['id']}", json={"name": "phone"})
    await client.delete(f"/v1/tokens/{made['id']}")
    await client.delete(f"/v1/tokens/{made['id']}")
    await client.post("/v1/webhooks/default/secret/rotate")
    model = {"owner": caller.username, "name": "mine", "visibility": "private", "hardware": "cpu"}
    assert (await client.post("/v1/models", json=model)).status_code == 201
    path = f"/v1/models/{caller.username}/mine"
    assert (await client.patch(path, json={"description": "A model"})).status_code == 200
    assert (await client.patch(path, json={"description": "A model"})).status_code == 200
    image = {"image": f"registry.example.com/me/mine@sha256:{'ab' * 32}"}
    version = (await client.post(f"{path}/versions", json=image)).json()
    assert (await client.post(f"{path}/versions", json=image)).status_code == 201
    await client.delete(f"{path}/versions/{version['id']}")
    await client.delete(path)
    upload = (await client.post("/v1/files", files={"content": ("a.txt", b"text")})).json()
    await client.delete(f"/v1/files/{upload['id']}")
    found = await events(client, since=(await events(client, action="account.create"))[0]["at"])
    assert [event["action"] for event in found[::-1]] == [
        "account.create",
        "token.create",
        "token.create",
        "token.rename",
        "token.revoke",
        "account.rotate_webhook_secret",
        "model.create",
        "model.update",
        "version.publish",
        "version.delete",
        "model.delete",
        "file.delete",
    ]
    changed = found[4]
    assert (changed["target"], changed["before"], changed["after"]) == (
        f"model:{caller.username}/mine",
        {"description": None},
        {"description": "A model"},
    )
    for secret in (caller.token, caller.webhook_secret, made["token"]):
        assert secret not in json.dumps(found)


async def test_a_request_that_is_refused_leaves_no_event(client: httpx.AsyncClient) -> None:
    before = await events(client)
    assert (await client.post("/v1/tokens", json={"name": ""})).status_code == 422
    assert (await client.patch("/v1/tokens/nothing", json={"name": "x"})).status_code == 404
    assert (await client.delete("/v1/models/nobody/nothing")).status_code == 404
    assert await events(client) == before


async def test_each_reads_what_touched_it_and_nobody_elses(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, caller: Caller
) -> None:
    assert {event["account_id"] for event in await events(client)} == {caller.id}
    assert caller.id not in {event["account_id"] for event in await events(stranger)}
    assert await events(client, account=caller.username) == await events(client)
    for path in ("/v1/audit", "/v1/audit/export"):
        refused = await stranger.get(path, params={"account": caller.username})
        assert refused.status_code == 403


async def test_an_admin_of_the_server_reads_everything_or_that_of_one(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, caller: Caller, admin_account: Caller
) -> None:
    assert {caller.id, admin_account.id} <= {event["account_id"] for event in await events(admin)}
    assert {event["account_id"] for event in await events(admin, account=caller.username)} == {caller.id}
    assert (await admin.get("/v1/audit", params={"account": f"nobody-{new_id()}"})).status_code == 400


async def test_an_owner_learns_that_an_admin_has_looked_once_an_hour(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, caller: Caller, admin_account: Caller
) -> None:
    for _ in range(3):
        assert (await admin.get("/v1/billing/wallet", params={"account": caller.username})).status_code == 200
    (seen,) = await events(client, action="account.view")
    assert (seen["actor"], seen["actor_account_id"]) == (admin_account.username, admin_account.id)
    await events(client, account=caller.username)
    assert len(await events(client, action="account.view")) == 1


async def test_an_owner_is_not_told_through_whom_and_from_where_an_admin_acted(
    resources: Resources, admin: httpx.AsyncClient, client: httpx.AsyncClient, caller: Caller
) -> None:
    for name in ("boss via token ops (mr_1a2b3…)", "boss (boss@example.com)"):
        with audit.acting(Actor(name, "another account", "a token", "192.0.2.7")):
            await record(resources, caller.id)
        shown = (await events(client, action="thing."))[0]
        whole = (await events(admin, action="thing.", account=caller.username))[0]
        assert (shown["actor"], shown["actor_token_id"], shown["address"]) == ("boss", None, None)
        assert (whole["actor"], whole["actor_token_id"], whole["address"]) == (name, "a token", "192.0.2.7")


async def test_pages_follow_each_other_from_the_newest_to_the_oldest(
    resources: Resources, client: httpx.AsyncClient, caller: Caller
) -> None:
    await record(resources, caller.id, count=PAGE_SIZE + 20)
    first = (await client.get("/v1/audit", params={"action": "thing."})).json()
    await record(resources, caller.id)
    second = (await client.get(first["next"])).json()
    targets = [event["target"] for event in first["results"] + second["results"]]
    assert targets == [f"thing:{number}" for number in reversed(range(PAGE_SIZE + 20))]
    assert second["next"] is None


@pytest.mark.parametrize("cursor", ["x", "WyJhIl0=", "WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwieCJd"])
async def test_a_cursor_that_is_not_ours_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    assert (await client.get("/v1/audit", params={"cursor": cursor})).status_code == 400


async def test_events_are_found_by_how_their_action_begins_and_by_time(
    resources: Resources, client: httpx.AsyncClient, caller: Caller
) -> None:
    for action in ("model.create", "model.update", "modelling.do", "m_del.x"):
        await record(resources, caller.id, action)
    assert [event["action"] for event in await events(client, action="model.")] == ["model.update", "model.create"]
    assert [event["action"] for event in await events(client, action="m_del")] == ["m_del.x"]
    assert await events(client, action="%") == []
    created = (await events(client, action="model.create"))[0]["at"]
    updated = (await events(client, action="model.update"))[0]["at"]
    between = await events(client, since=created, until=updated)
    assert [event["action"] for event in between] == ["model.create"]
    assert await events(client, since=rfc3339(now() + timedelta(hours=1))) == []
    assert (await client.get("/v1/audit", params={"since": "yesterday"})).status_code == 422


async def test_an_export_has_every_event_in_order_and_is_on_record_itself(
    resources: Resources, client: httpx.AsyncClient, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(resources, caller.id, count=25)
    monkeypatch.setattr(audit_trail, "_BATCH", 10)
    answer = await client.get("/v1/audit/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.jsonl"'
    exported = [json.loads(line) for line in answer.text.splitlines()]
    assert exported == (await events(client))[::-1]
    assert (exported[-1]["action"], exported[-1]["after"]["format"]) == ("audit.export", "jsonl")


async def test_an_export_as_csv_is_a_table_without_formulas(
    client: httpx.AsyncClient, resources: Resources, caller: Caller
) -> None:
    async with resources.database.transaction() as tx:
        await audit.record(tx, "thing.do", '=HYPERLINK("x")', account_id=caller.id, after={"amount_nanos": 1})
    answer = await client.get("/v1/audit/export", params={"format": "csv", "action": "thing."})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    (row,) = csv.DictReader(io.StringIO(answer.text))
    (event,) = await events(client, action="thing.")
    assert list(row) == list(event)
    assert row["target"] == '\'=HYPERLINK("x")'
    assert json.loads(row["after"]) == {"amount_nanos": 1, "amount_dollars": "0.000000001"}
    assert (row["number"], row["hash"], row["before"]) == (str(event["number"]), event["hash"], "")
    assert (await client.get("/v1/audit/export", params={"format": "xml"})).status_code == 422


async def test_a_token_of_a_deleted_account_lets_nobody_in(api: Settings, scene: Scene, resources: Resources) -> None:
    caller = await scene.caller()
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == caller.id).values(deleted_at=now()))
        _, token = await tokens.create(tx, new_id(), caller.id, "late", (Scope.READ,))
    async with client_of(api, token) as client:
        assert (await client.get("/v1/account")).status_code == 401
