"""Tokens: what they may do, how long, and that nobody learns one from another."""

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import func, select, update

from api.access import access_of
from api.routes import v1
from core.clock import now, rfc3339
from core.ids import new_id
from core.people import accounts, tokens
from core.people.tokens import EVERY_SCOPE, Scope
from core.resources import Resources
from core.settings import Settings
from core.tables import Token
from tests.api.conftest import client_of
from tests.api.scene import Caller

SHOWN = {"id", "name", "prefix", "scopes", "created_at", "last_used_at", "expires_at", "revoked_at"}


async def make(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/v1/tokens", json={"name": "app", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def status_with(api: Settings, token: str, method: str = "GET", path: str = "/v1/account") -> int:
    async with client_of(api, token) as client:
        return (await client.request(method, path)).status_code


# --- create, list, name -----------------------------------------------------------------------------------------------


async def test_a_new_token_is_shown_once_and_speaks_for_its_account(
    api: Settings, client: httpx.AsyncClient, caller: Caller
) -> None:
    made = await make(client, name="laptop")
    assert made.keys() == SHOWN | {"token"}
    assert (made["name"], made["scopes"], made["prefix"]) == ("laptop", list(EVERY_SCOPE), made["token"][:8])
    assert (made["last_used_at"], made["expires_at"], made["revoked_at"]) == (None, None, None)
    async with client_of(api, made["token"]) as other:
        assert (await other.get("/v1/account")).json()["username"] == caller.username
    shown = await client.get(f"/v1/tokens/{made['id']}")
    assert shown.json().keys() == SHOWN
    listed = await client.get("/v1/tokens")
    assert made["token"] not in shown.text + listed.text


async def test_only_a_hash_is_kept(client: httpx.AsyncClient, resources: Resources) -> None:
    made = await make(client)
    async with resources.database.autocommit() as tx:
        row = await tx.one(select(Token).where(Token.id == made["id"]))
    assert row.token_hash == tokens.hash_token(made["token"])
    assert made["token"] not in str(row)
    assert row.token_hash.hex() not in (await client.get(f"/v1/tokens/{made['id']}")).text


async def test_tokens_are_listed_newest_first_in_pages(
    client: httpx.AsyncClient, resources: Resources, caller: Caller
) -> None:
    async with resources.database.transaction() as tx:
        for number in range(101):
            await tokens.create(tx, new_id(), caller.id, f"token {number}")
    first = (await client.get("/v1/tokens")).json()
    second = (await client.get(first["next"])).json()
    names = {token["name"] for token in first["results"] + second["results"]}
    assert names == {"test", *(f"token {number}" for number in range(101))}
    assert (len(first["results"]), len(second["results"]), second["next"]) == (100, 2, None)
    assert second["results"][-1]["name"] == "test"


async def test_a_token_can_be_named_anew(client: httpx.AsyncClient) -> None:
    made = await make(client)
    renamed = await client.patch(f"/v1/tokens/{made['id']}", json={"name": "phone"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "phone")
    assert (await client.get(f"/v1/tokens/{made['id']}")).json() == renamed.json()


async def test_last_use_is_shown_to_the_minute(api: Settings, client: httpx.AsyncClient) -> None:
    made = await make(client)
    earliest = rfc3339(now() - timedelta(minutes=1))
    await status_with(api, made["token"])
    last_used_at = (await client.get(f"/v1/tokens/{made['id']}")).json()["last_used_at"]
    assert earliest < last_used_at <= rfc3339(now())
    assert last_used_at.endswith(":00.000000Z")


async def test_anothers_tokens_do_not_exist(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    made = await make(client)
    path = f"/v1/tokens/{made['id']}"
    assert (await stranger.get(path)).status_code == 404
    assert (await stranger.patch(path, json={"name": "mine"})).status_code == 404
    assert (await stranger.delete(path)).status_code == 404
    assert made["id"] not in (await stranger.get("/v1/tokens")).text
    assert (await client.get(path)).json()["revoked_at"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": 1}, "name"),
        ({"name": "app", "scopes": []}, "scopes"),
        ({"name": "app", "scopes": ["everything"]}, "scopes.0"),
        ({"name": "app", "scopes": "read"}, "scopes"),
        ({"name": "app", "expires_in_seconds": 0}, "expires_in_seconds"),
        ({"name": "app", "expires_in_seconds": 10**30}, "expires_in_seconds"),
        ({"name": "app", "expires_at": "2020-01-01T00:00:00Z"}, ""),
        ({"name": "app", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "app", "expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ({"name": "app", "expires_at": "2099-01-01T00:00:00Z", "expires_in_seconds": 60}, ""),
        ({"name": "app", "token": "mr_mine"}, ""),
    ],
)
async def test_what_is_no_token_is_refused(client: httpx.AsyncClient, body: dict[str, Any], field: str) -> None:
    answer = await client.post("/v1/tokens", json=body)
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, field)


async def test_a_name_that_cannot_be_stored_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/tokens", json={"name": "a\x00b"})).status_code == 422


async def test_the_same_request_again_makes_no_second_token_and_shows_none(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": new_id()}
    first = await client.post("/v1/tokens", json={"name": "app"}, headers=key)
    again = await client.post("/v1/tokens", json={"name": "app"}, headers=key)
    assert (first.status_code, again.status_code) == (201, 409)
    assert first.json()["id"] in again.json()["detail"]
    assert first.json()["token"] not in again.text
    listed = (await client.get("/v1/tokens")).json()["results"]
    assert [token["name"] for token in listed] == ["app", "test"]


# --- scopes -----------------------------------------------------------------------------------------------------------


async def test_a_token_gets_no_scope_that_its_creator_lacks(api: Settings, client: httpx.AsyncClient) -> None:
    made = await make(client, scopes=["admin", "read"])
    assert made["scopes"] == ["read", "admin"]
    async with client_of(api, made["token"]) as lesser:
        assert (await make(lesser))["scopes"] == ["read", "admin"]
        assert (await make(lesser, scopes=["read"]))["scopes"] == ["read"]
        refused = await lesser.post("/v1/tokens", json={"name": "app", "scopes": ["read", "write", "run"]})
    assert refused.status_code == 403
    assert "write, run" in refused.json()["detail"]


CLOSED = [
    (method, re.sub(r"{[^}]+}", "something", route.path), scope)
    for route in iter_route_contexts(v1.routes)
    if (scope := access_of(route.endpoint).scope) is not None
    for method in sorted(route.methods)
]


@pytest.fixture(scope="module")
async def tokens_by_scopes(resources: Resources) -> dict[frozenset[Scope], str]:
    """Of one account: a token with each scope alone, and one with each scope missing."""
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, f"user-{new_id()}", "Some User")
        sets = [frozenset({scope}) for scope in Scope] + [frozenset(Scope) - {scope} for scope in Scope]
        return {scopes: (await tokens.create(tx, new_id(), account.id, "", scopes))[1] for scopes in sets}


@pytest.mark.parametrize(("method", "path", "scope"), CLOSED)
async def test_each_route_refuses_a_token_that_has_every_scope_but_its_own(
    api: Settings, tokens_by_scopes: dict[frozenset[Scope], str], method: str, path: str, scope: Scope
) -> None:
    async with client_of(api, tokens_by_scopes[frozenset(Scope) - {scope}]) as client:
        answer = await client.request(method, path)
    assert answer.status_code == 403
    assert f"`{scope}`" in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path", "scope"), CLOSED)
async def test_each_route_lets_its_own_scope_pass(
    api: Settings, tokens_by_scopes: dict[frozenset[Scope], str], method: str, path: str, scope: Scope
) -> None:
    async with client_of(api, tokens_by_scopes[frozenset({scope})]) as client:
        answer = await client.request(method, path)
    assert answer.status_code != 401
    assert "lacks the scope" not in answer.text


MONEY = ("/v1/usage", "/v1/billing", "/v1/prices")


def test_whoever_may_only_read_changes_nothing_and_learns_no_secret() -> None:
    exceptions = {
        ("GET", "/v1/account/usage"): Scope.BILLING,
        ("GET", "/v1/webhooks/default/secret"): Scope.RUN,
        ("GET", "/v1/tokens"): Scope.ADMIN,
        ("GET", "/v1/tokens/something"): Scope.ADMIN,
        ("GET", "/v1/audit"): Scope.ADMIN,
        ("GET", "/v1/audit/export"): Scope.ADMIN,
        ("GET", "/v1/nodes"): Scope.ADMIN,
        ("GET", "/v1/instances"): Scope.ADMIN,
        ("GET", "/v1/prices/book"): Scope.ADMIN,
    }
    reading = {(method, path): scope for method, path, scope in CLOSED if method in ("GET", "QUERY")}
    # What was used and what is owed is for those who look after money.
    exceptions = {(method, path): Scope.BILLING for method, path in reading if path.startswith(MONEY)} | exceptions
    assert {key: scope for key, scope in reading.items() if scope != Scope.READ} == exceptions
    assert not [route for route in CLOSED if route[0] not in ("GET", "QUERY") and route[2] == Scope.READ]


# --- the end of a token -----------------------------------------------------------------------------------------------


async def test_a_revoked_token_is_refused_at_once_and_stays_on_record(api: Settings, client: httpx.AsyncClient) -> None:
    made = await make(client)
    assert await status_with(api, made["token"]) == 200
    assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
    assert await status_with(api, made["token"]) == 401
    revoked = (await client.get(f"/v1/tokens/{made['id']}")).json()
    assert revoked["revoked_at"] is not None
    assert (await client.delete(f"/v1/tokens/{made['id']}")).status_code == 204
    assert (await client.get(f"/v1/tokens/{made['id']}")).json() == revoked


async def test_a_token_may_revoke_itself(api: Settings, client: httpx.AsyncClient) -> None:
    made = await make(client)
    path = f"/v1/tokens/{made['id']}"
    async with client_of(api, made["token"]) as itself:
        assert (await itself.delete(path)).status_code == 204
        assert (await itself.delete(path)).status_code == 401
    assert (await client.get("/v1/account")).status_code == 200


async def test_an_expired_token_is_refused(api: Settings, client: httpx.AsyncClient, resources: Resources) -> None:
    made = await make(client, expires_in_seconds=3600)
    in_an_hour = now() + timedelta(hours=1)
    assert rfc3339(in_an_hour - timedelta(minutes=1)) < made["expires_at"] <= rfc3339(in_an_hour)
    async with resources.database.transaction() as tx:
        await tx.execute(update(Token).where(Token.id == made["id"]).values(expires_at=func.now()))
    assert await status_with(api, made["token"]) == 401


async def test_an_expiry_may_be_a_moment(api: Settings, client: httpx.AsyncClient) -> None:
    made = await make(client, expires_at="2099-01-01T02:00:00+02:00")
    assert made["expires_at"] == "2099-01-01T00:00:00.000000Z"
    assert await status_with(api, made["token"]) == 200
