"""Deployments over HTTP: their shape, their life, whom they are shown to, and their predictions."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, update

from api.pagination import PAGE_SIZE
from core import catalog, predictions
from core.deployments import MAX_DEPLOYMENTS
from core.hardware import CPU
from core.ids import new_id
from core.lifecycle import InstanceStatus
from core.resources import Resources
from core.settings import Settings
from core.tables import Deployment, Instance, Prediction
from tests.api.scene import Caller, Published, Scene

MOMENT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
NAMES = ("no-such-name", "%2e%2e", "%00")


def body_of(published: Published, **fields: Any) -> dict[str, Any]:
    return {
        "name": f"d-{new_id()}",
        "model": published.model,
        "version": published.version,
        "hardware": "cpu",
        "min_instances": 0,
        "max_instances": 3,
        **fields,
    }


async def deploy(client: httpx.AsyncClient, published: Published, **fields: Any) -> str:
    """Creates one and returns its path."""
    answer = await client.post("/v1/deployments", json=body_of(published, **fields))
    assert answer.status_code == 200, answer.text
    return f"/v1/deployments/{answer.json()['owner']}/{answer.json()['name']}"


async def other_hardware(resources: Resources) -> str:
    sku = f"sku-{new_id()}"
    async with resources.database.transaction() as tx:
        await catalog.put_hardware(tx, sku, "Another", 1)
    return sku


@pytest.fixture
async def published(scene: Scene, caller: Caller) -> Published:
    return await scene.publish(caller)


async def test_a_deployment_has_the_documented_shape(
    client: httpx.AsyncClient, caller: Caller, published: Published
) -> None:
    body = body_of(published, min_instances=1)
    created = await client.post("/v1/deployments", json=body)
    assert created.status_code == 200
    shown = created.json()
    assert (await client.get(f"/v1/deployments/{caller.username}/{body['name']}")).json() == shown
    assert MOMENT.match(shown["current_release"].pop("created_at"))
    assert shown == {
        "owner": caller.username,
        "name": body["name"],
        "current_release": {
            "number": 1,
            "model": published.model,
            "version": published.version,
            "created_by": {
                "type": "user",
                "username": caller.username,
                "name": "Some User",
                "avatar_url": None,
                "github_url": None,
            },
            "configuration": {
                "hardware": "cpu",
                "min_instances": 1,
                "max_instances": 3,
                "scaling": {"min_instances": 1, "max_instances": 3},
            },
        },
    }


async def test_deployments_come_in_pages_newest_first_and_only_ones_own(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, published: Published
) -> None:
    paths = [await deploy(client, published) for _ in range(PAGE_SIZE + 1)]
    first = (await client.get("/v1/deployments")).json()
    second = (await client.get(first["next"])).json()
    listed = [f"/v1/deployments/{item['owner']}/{item['name']}" for item in first["results"] + second["results"]]
    assert listed == paths[::-1]
    assert second["next"] is None
    assert (await stranger.get("/v1/deployments")).json() == {"next": None, "previous": None, "results": []}


@pytest.mark.parametrize("changed", ["version", "hardware", "min_instances", "max_instances"])
async def test_a_change_makes_the_next_release_and_no_change_makes_none(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, published: Published, changed: str, resources: Resources
) -> None:
    path = await deploy(client, published)
    values = {"version": await scene.add_version(caller, published), "min_instances": 2, "max_instances": 20}
    values["hardware"] = await other_hardware(resources)
    first = (await client.get(path)).json()["current_release"]
    for _ in range(2):
        answer = await client.patch(path, json={changed: values[changed]})
        release = answer.json()["current_release"]
        assert (answer.status_code, release["number"]) == (200, 2)
        assert (release | release["configuration"])[changed] == values[changed]
        unchanged = {"version", "hardware", "min_instances", "max_instances"} - {changed}
        before, after = first | first["configuration"], release | release["configuration"]
        assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}
    assert (await client.patch(path, json={})).json()["current_release"] == release


async def test_an_update_may_name_the_model_but_not_change_it(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, published: Published
) -> None:
    """The Go client sends it along."""
    path = await deploy(client, published)
    answer = await client.patch(path, json={"model": published.model, "max_instances": 4})
    assert (answer.status_code, answer.json()["current_release"]["number"]) == (200, 2)
    other = await scene.publish(caller)
    refused = await client.patch(path, json={"model": other.model, "version": other.version})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/model")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "0" * 64),
        ("model", "nobody/nothing"),
        ("hardware", "gpu-from-the-future"),
        ("min_instances", 4),
    ],
)
async def test_what_does_not_exist_or_go_together_is_pointed_to(
    client: httpx.AsyncClient, published: Published, field: str, value: Any
) -> None:
    answer = await client.post("/v1/deployments", json=body_of(published, **{field: value}))
    problem = answer.json()
    assert (answer.status_code, problem["title"]) == (400, "Validation failed")
    assert [error["pointer"] for error in problem["errors"]] == [f"/{field}"]
    if field != "model":
        path = await deploy(client, published)
        refused = await client.patch(path, json={field: value})
        assert refused.json()["errors"][0]["pointer"] == f"/{field}"
        assert (await client.get(path)).json()["current_release"]["number"] == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", "latest"),
        ("min_instances", -1),
        ("min_instances", 6),
        ("max_instances", 21),
        ("max_instances", "3"),
        ("max_instances", 2.5),
        ("name", "With Spaces"),
        ("name", ""),
        ("model", "no-owner"),
        ("surprise", 1),
    ],
)
async def test_what_is_no_such_value_is_an_invalid_field(
    client: httpx.AsyncClient, published: Published, field: str, value: Any
) -> None:
    answer = await client.post("/v1/deployments", json=body_of(published, **{field: value}))
    assert answer.status_code == 422
    [invalid] = answer.json()["invalid_fields"]
    assert field in invalid["field"] + invalid["description"]


async def test_two_point_nought_is_an_integer_in_json(client: httpx.AsyncClient, published: Published) -> None:
    path = await deploy(client, published, max_instances=2.0)
    assert (await client.get(path)).json()["current_release"]["configuration"]["max_instances"] == 2


async def test_only_what_one_may_run_can_be_deployed(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    private, public = await scene.publish(caller, visibility="private"), await scene.publish(caller)
    await deploy(client, private)
    await deploy(stranger, public)
    refused = await stranger.post("/v1/deployments", json=body_of(private))
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/model")


async def test_a_version_of_another_model_cannot_be_deployed(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, published: Published
) -> None:
    other = await scene.publish(caller)
    refused = await client.post("/v1/deployments", json=body_of(published, version=other.version))
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/version")


async def test_a_name_is_taken_once_by_each_account(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, published: Published
) -> None:
    body = body_of(published)
    answers = [await who.post("/v1/deployments", json=body) for who in (client, client, stranger)]
    assert [answer.status_code for answer in answers] == [200, 409, 200]
    assert body["name"] in answers[1].json()["detail"]


async def test_an_account_has_no_more_deployments_than_it_may_however_many_at_once(
    resources: Resources, client: httpx.AsyncClient, stranger: httpx.AsyncClient, caller: Caller, published: Published
) -> None:
    path = await deploy(client, published)
    rows = [
        {"id": new_id(), "owner_id": caller.id, "name": f"full-{number}", "release_number": 1}
        for number in range(MAX_DEPLOYMENTS - 3)
    ]
    async with resources.database.transaction() as tx:
        await tx.execute(insert(Deployment), rows)
    posts = (client.post("/v1/deployments", json=body_of(published)) for _ in range(4))
    answers = await asyncio.gather(*posts)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 409, 409]
    full = await client.post("/v1/deployments", json=body_of(published))
    assert f"has {MAX_DEPLOYMENTS} deployments, the most an account may have" in full.json()["detail"]
    await deploy(stranger, published)
    assert (await client.delete(path)).status_code == 204
    await deploy(client, published)


async def test_creating_it_again_with_the_same_key_is_answered_the_same(
    client: httpx.AsyncClient, published: Published
) -> None:
    body, key = body_of(published), {"Idempotency-Key": "deploy-1"}
    first, second = [await client.post("/v1/deployments", json=body, headers=key) for _ in range(2)]
    assert (second.status_code, second.content) == (200, first.content)


async def test_only_its_owner_finds_a_deployment(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, published: Published
) -> None:
    path = await deploy(client, published)
    answers = [
        await stranger.get(path),
        await stranger.patch(path, json={"max_instances": 1}),
        await stranger.delete(path),
        await stranger.post(f"{path}/predictions", json={"input": {"text": "Ada"}}),
    ]
    assert {(answer.status_code, answer.json()["detail"]) for answer in answers} == {
        (404, "The requested deployment could not be found.")
    }
    assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient, caller: Caller, name: str) -> None:
    assert (await client.get(f"/v1/deployments/{caller.username}/{name}")).status_code in (404, 422)


# --- deleting ---------------------------------------------------------------------------------------------------------


async def test_a_deployment_that_nobody_used_is_deleted(
    client: httpx.AsyncClient, caller: Caller, published: Published
) -> None:
    path = await deploy(client, published)
    gone = await client.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get(path)).status_code == 404
    assert (await client.post(f"{path}/predictions", json={"input": {"text": "Ada"}})).status_code == 404


async def test_a_deployment_in_use_is_deleted_once_it_has_been_offline_for_a_quarter_of_an_hour(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, published: Published, resources: Resources
) -> None:
    path = await deploy(client, published)
    created = (await client.post(f"{path}/predictions", json={"input": {"text": "Ada"}})).json()
    waiting = await client.delete(path)
    row = await scene.start(created["id"])
    await scene.finish(row, "hello Ada")
    online = await client.delete(path)
    for answer in (waiting, online):
        assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")
        assert "is online" in answer.json()["detail"]
    await end_instance(resources, row.instance_id, minutes_ago=10)
    recent = await client.delete(path)
    assert recent.status_code == 409
    assert re.search(r"can be deleted from \S+Z on", recent.json()["detail"])
    await end_instance(resources, row.instance_id, minutes_ago=16)
    assert (await client.delete(path)).status_code == 409, "its last prediction came a moment ago"
    await move_back(resources, created["id"], minutes=16)
    assert (await client.delete(path)).status_code == 204
    shown = (await client.get(f"/v1/predictions/{created['id']}")).json()
    assert (shown["status"], shown["deployment"]) == ("succeeded", path.removeprefix("/v1/deployments/"))


async def end_instance(resources: Resources, id: str, minutes_ago: int) -> None:
    ended_at = func.now() - func.make_interval(0, 0, 0, 0, 0, minutes_ago)
    async with resources.database.autocommit() as tx:
        values = {"status": InstanceStatus.STOPPED, "ended_at": ended_at}
        await tx.execute(update(Instance).where(Instance.id == id).values(**values))


async def move_back(resources: Resources, prediction_id: str, minutes: int) -> None:
    moment = func.now() - func.make_interval(0, 0, 0, 0, 0, minutes)
    async with resources.database.autocommit() as tx:
        await tx.execute(update(Prediction).where(Prediction.id == prediction_id).values(created_at=moment))


# --- predictions ------------------------------------------------------------------------------------------------------


async def test_a_prediction_of_a_deployment_runs_its_current_release(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, published: Published, resources: Resources
) -> None:
    path = await deploy(client, published)
    first = await client.post(f"{path}/predictions", json={"input": {"text": "Ada"}})
    sku, version = await other_hardware(resources), await scene.add_version(caller, published)
    await client.patch(path, json={"version": version, "hardware": sku})
    second = await client.post(f"{path}/predictions", json={"input": {"text": "Ada"}})
    for answer, runs, on in ((first, published.version, CPU.sku), (second, version, sku)):
        assert answer.status_code == 201
        shown = answer.json()
        assert (shown["version"], shown["model"]) == (runs, published.model)
        assert shown["deployment"] == path.removeprefix("/v1/deployments/")
        async with resources.database.autocommit() as tx:
            row = await predictions.find(tx, shown["id"])
        assert (row.hardware_sku, row.target.split("@")[:2]) == (on, [runs, on])
        assert row.target != published.target


async def test_a_prediction_of_a_deployment_can_be_waited_for(
    api: Settings, client: httpx.AsyncClient, published: Published
) -> None:
    path = await deploy(client, published)
    answer = await client.post(
        f"{path}/predictions", json={"input": {"text": "Ada"}}, headers={"Prefer": "wait=1", "Cancel-After": "90s"}
    )
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    assert (answer.json()["status"], "deadline" in answer.json()) == ("starting", True)


async def test_input_is_checked_against_the_schema_of_the_release(
    client: httpx.AsyncClient, published: Published
) -> None:
    path = await deploy(client, published)
    answer = await client.post(f"{path}/predictions", json={"input": {"count": 11}})
    assert (answer.status_code, answer.json()["title"]) == (422, "Input validation failed")


async def test_a_disabled_deployment_takes_no_predictions_until_it_is_enabled(
    client: httpx.AsyncClient, published: Published
) -> None:
    path = await deploy(client, published, max_instances=0)
    refused = await client.post(f"{path}/predictions", json={"input": {"text": "Ada"}})
    assert refused.status_code == 409
    assert "max_instances is 0" in refused.json()["detail"]
    await client.patch(path, json={"max_instances": 1})
    assert (await client.post(f"{path}/predictions", json={"input": {"text": "Ada"}})).status_code == 201
    await client.patch(path, json={"max_instances": 0})
    assert (await client.post(f"{path}/predictions", json={"input": {"text": "Ada"}})).status_code == 409


async def test_a_model_that_has_become_private_is_no_longer_run_for_others(
    stranger: httpx.AsyncClient, client: httpx.AsyncClient, published: Published
) -> None:
    path = await deploy(stranger, published)
    assert (await client.patch(f"/v1/models/{published.model}", json={"visibility": "private"})).status_code == 200
    refused = await stranger.post(f"{path}/predictions", json={"input": {"text": "Ada"}})
    assert (refused.status_code, refused.json()["title"]) == (422, "Invalid version or not permitted")
    bounds = await stranger.patch(path, json={"max_instances": 2})
    assert bounds.status_code == 200, "what does not change is not asked again"
