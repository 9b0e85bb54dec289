"""What happened to a prediction, over HTTP; and nodes and instances, for admins of the server."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import select, update

from core.resources import Resources
from core.settings import Settings
from core.tables import Account, AuditEvent
from tests.api.conftest import client_of
from tests.api.scene import Caller, Scene


@pytest.fixture
async def admin(api: Settings, scene: Scene, resources: Resources) -> AsyncIterator[httpx.AsyncClient]:
    caller = await scene.caller()
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == caller.id).values(is_admin=True))
    async with client_of(api, caller.token) as client:
        yield client


async def predict(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> str:
    version = (await scene.publish(caller)).version
    created = await client.post("/v1/predictions", json={"version": version, "input": {"text": "Ada"}})
    return created.json()["id"]


async def test_the_owner_reads_the_path_of_a_prediction(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    id = await predict(client, scene, caller)
    row = await scene.start(id)
    await scene.finish(row, "done")
    answer = await client.get(f"/v1/predictions/{id}/events")
    assert answer.status_code == 200
    entries = answer.json()["results"]
    own = [(entry["actor"], entry["from"], entry["to"]) for entry in entries if entry["subject"] == "prediction"]
    assert own == [
        (f"account:{caller.username}", None, "starting"),
        ("node", "starting", "processing"),
        ("node", "processing", "succeeded"),
    ]
    assert entries[0]["reason"] == "Created over the API with the token 'test'."
    boot = [entry["to"] for entry in entries if entry["subject"] == f"instance:{row.instance_id}"]
    assert boot == ["pending", "starting", "ready"]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)


async def test_of_another_accounts_prediction_nobody_learns_that_it_is_there(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    id = await predict(client, scene, caller)
    answers = [await stranger.get(f"/v1/predictions/{which}/events") for which in (id, "nothing")]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.json()["detail"] for answer in answers}) == 1


async def test_an_admin_is_told_of_nodes_too_and_their_look_is_on_record(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    id = await predict(client, scene, caller)
    await scene.start(id)
    entries = (await admin.get(f"/v1/predictions/{id}/events")).json()["results"]
    assert [entry for entry in entries if entry["actor"].startswith("node:node-")]
    async with resources.database.autocommit() as tx:
        looks = select(AuditEvent.action).where(AuditEvent.account_id == caller.id)
        assert "account.view" in {row.action for row in await tx.all(looks)}


async def test_nodes_and_instances_are_listed_for_admins_only(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    id = await predict(client, scene, caller)
    row = await scene.start(id)
    for path in ("nodes", "instances"):
        assert (await client.get(f"/v1/{path}")).status_code == 403
    [instance] = [
        each for each in (await admin.get("/v1/instances")).json()["results"] if each["id"] == row.instance_id
    ]
    assert (instance["status"], instance["predictions"], instance["idle_seconds"]) == ("ready", [id], None)
    [node] = [each for each in (await admin.get("/v1/nodes")).json()["results"] if each["name"] == instance["node"]]
    assert (node["state"], node["instances"], node["is_cordoned"], node["labels"]) == ("up", 1, False, {})
    await scene.finish(row, "done")
    assert (await admin.get("/v1/instances", params={"ended_seconds": 60})).status_code == 200
