"""Models over HTTP: what they look like, who sees them, and what their owners may do."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Row, insert, select

from api.pagination import MODELS_PAGE_SIZE
from api.state import State
from core.ids import new_id
from core.people.ownership import MAX_MODELS
from core.resources import Resources
from core.settings import Settings
from core.tables import Model
from tests.api.scene import TEXT, Caller, Scene, openapi

MOMENT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


async def test_a_model_has_the_documented_shape(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    model = (await client.get(f"/v1/models/{published.model}")).json()
    owner, name = published.model.split("/")
    assert MOMENT.match(model.pop("created_at"))
    version = model.pop("latest_version")
    assert model == {
        "url": f"{api.url}/{published.model}",
        "owner": owner,
        "name": name,
        "description": "A model",
        "visibility": "public",
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "cover_image_url": None,
        "run_count": 0,
        "default_example": None,
        "is_official": False,
    }
    assert MOMENT.match(version.pop("created_at"))
    assert version == {
        "id": published.version,
        "cog_version": "0.23.1",
        "openapi_schema": openapi(TEXT),
        "status": "ready",
        "status_reason": None,
    }
    assert re.match(r"^[0-9a-f]{64}$", published.version)


async def test_runs_are_counted(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada"}}
    created = (await client.post("/v1/predictions", json=body)).json()
    await scene.finish(await scene.start(created["id"]), "hello Ada")
    assert (await client.get(f"/v1/models/{published.model}")).json()["run_count"] == 1


async def test_runs_are_counted_anew_only_twice_a_minute(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    """Counting reads every record of a Model, a million for a popular one."""
    published, state = await scene.publish(caller), State(resources)

    async def count(state: State) -> dict[str, int]:
        async with resources.database.autocommit() as tx:
            return await state.run_counts(tx, [published.model, "nobody/nothing"])

    assert await count(state) == {published.model: 0, "nobody/nothing": 0}
    body = {"version": published.version, "input": {"text": "Ada"}}
    created = (await client.post("/v1/predictions", json=body)).json()
    await scene.finish(await scene.start(created["id"]), "hello Ada")
    assert await count(state) == {published.model: 0, "nobody/nothing": 0}
    assert await count(State(resources)) == {published.model: 1, "nobody/nothing": 0}


async def test_models_come_in_pages_newest_first(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    own = [(await scene.publish(caller, visibility="private")).model for _ in range(MODELS_PAGE_SIZE + 1)]
    first = (await client.get("/v1/models")).json()
    assert [f"{item['owner']}/{item['name']}" for item in first["results"]] == own[:0:-1]
    assert first["results"][0]["latest_version"]["status"] == "ready"
    assert first["next"].startswith(f"{api.url}/v1/models?cursor=")
    second = (await client.get(first["next"])).json()
    assert f"{second['results'][0]['owner']}/{second['results'][0]['name']}" == own[0]


@pytest.mark.parametrize("path", ["", "/versions", "/versions/{version}", "/readme", "/examples"])
async def test_a_private_model_is_found_by_its_owner_only(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller, path: str
) -> None:
    published = await scene.publish(caller, visibility="private")
    await client.patch(f"/v1/models/{published.model}", json={"readme": "# Hello"})
    url = f"/v1/models/{published.model}{path.format(version=published.version)}"
    assert (await client.get(url)).status_code == 200
    answer = await stranger.get(url)
    assert (answer.status_code, answer.json()["detail"]) == (404, "The requested model could not be found.")
    listed = (await stranger.get("/v1/models")).json()["results"]
    assert published.model not in [f"{item['owner']}/{item['name']}" for item in listed]


# --- sorting ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def many(resources: Resources, scene: Scene, caller: Caller) -> list[Row]:
    """Own Models of three moments only, some with Versions of three other moments, the others without."""
    await scene.publish(caller)
    first = datetime(2026, 1, 2, tzinfo=UTC)
    rows = [
        {
            "id": new_id(),
            "owner_id": caller.id,
            "name": f"many-{number}",
            "hardware_sku": "cpu",
            "created_at": first + timedelta(days=number % 3),
            "latest_version_created_at": first + timedelta(days=number % 4, hours=1) if number % 4 else None,
        }
        for number in range(2 * MODELS_PAGE_SIZE + 5)
    ]
    async with resources.database.transaction() as tx:
        await tx.execute(insert(Model), rows)
        return list(await tx.all(select(Model).where(Model.owner_id == caller.id)))


def moment_of(row: Row, sort_by: str) -> datetime:
    return row.created_at if sort_by == "model_created_at" else row.latest_version_created_at or row.created_at


@pytest.mark.parametrize("sort_direction", ["desc", "asc"])
@pytest.mark.parametrize("sort_by", ["latest_version_created_at", "model_created_at"])
async def test_every_order_goes_through_all_pages_once(
    client: httpx.AsyncClient, caller: Caller, many: list[Row], sort_by: str, sort_direction: str
) -> None:
    ordered = sorted(many, key=lambda row: (moment_of(row, sort_by), row.id), reverse=sort_direction == "desc")
    seen, url = [], f"/v1/models?sort_by={sort_by}&sort_direction={sort_direction}"
    while url:
        page = (await client.get(url)).json()
        seen += [item["name"] for item in page["results"] if item["owner"] == caller.username]
        url = page["next"]
    assert seen == [row.name for row in ordered]


async def test_newest_versions_come_first_by_default(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    old, new = await scene.publish(caller), await scene.publish(caller)
    await scene.add_version(caller, old)
    listed = [f"{item['owner']}/{item['name']}" for item in (await client.get("/v1/models")).json()["results"]]
    assert listed.index(old.model) < listed.index(new.model)


@pytest.mark.parametrize("query", ["sort_by=run_count", "sort_direction=up", "sort_by="])
async def test_unknown_orders_are_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/models?{query}")
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, query.partition("=")[0])


# --- creating ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def request_body(scene: Scene, caller: Caller) -> dict[str, Any]:
    await scene.publish(caller)
    return {
        "owner": caller.username,
        "name": "hot-dog_detector.v2",
        "visibility": "private",
        "hardware": "cpu",
        "description": "Detect hot dogs",
        "github_url": "https://github.com/alice/hot-dog-detector",
        "paper_url": "https://arxiv.org/abs/2504.17639",
        "license_url": "http://example.com/license",
        "cover_image_url": "https://example.com/dog.png",
    }


async def test_a_model_is_created_as_asked_without_a_version(
    client: httpx.AsyncClient, request_body: dict[str, Any]
) -> None:
    answer = await client.post("/v1/models", json=request_body)
    model = answer.json()
    sent = {key: value for key, value in request_body.items() if key != "hardware"}
    assert answer.status_code == 201
    assert {key: model[key] for key in sent} == sent
    assert (model["latest_version"], model["default_example"], model["run_count"]) == (None, None, 0)
    assert (await client.get(f"/v1/models/{request_body['owner']}/{request_body['name']}")).json() == model


async def test_a_taken_name_is_a_conflict_but_not_for_a_retry(
    client: httpx.AsyncClient, request_body: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": new_id()}
    answers = [await client.post("/v1/models", json=request_body, headers=headers) for headers in (key, key, {})]
    assert [answer.status_code for answer in answers] == [201, 201, 409]
    assert answers[0].json() == answers[1].json()


async def test_nobody_creates_models_for_another(client: httpx.AsyncClient, request_body: dict[str, Any]) -> None:
    answer = await client.post("/v1/models", json=request_body | {"owner": "somebody-else"})
    assert answer.status_code == 403


async def test_unknown_hardware_is_pointed_out_with_what_there_is(
    client: httpx.AsyncClient, request_body: dict[str, Any]
) -> None:
    answer = await client.post("/v1/models", json=request_body | {"hardware": "gpu-from-the-future"})
    problem = answer.json()
    assert (answer.status_code, problem["title"]) == (400, "Validation failed")
    assert problem["errors"] == [{"pointer": "/hardware", "detail": problem["detail"]}]
    assert re.match(r"^- .*gpu-from-the-future.* cpu\b.*\n$", problem["detail"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", name) for name in ["", "Upper", "-a", "a-", ".", "a/b", "a b", "é", "a" * 101, "a\n"]),
        ("visibility", "secret"),
        ("hardware", ""),
        *(
            ("github_url", url)
            for url in ["javascript:alert(1)", "github.com/alice", "http://", "https://a b", "http://[x"]
        ),
        ("cover_image_url", "data:image/png;base64,AAAA"),
        ("description", "x" * 4001),
        ("readme", "not when creating"),
    ],
)
async def test_what_a_model_cannot_be_is_refused(
    client: httpx.AsyncClient, request_body: dict[str, Any], field: str, value: str
) -> None:
    answer = await client.post("/v1/models", json=request_body | {field: value})
    [invalid] = answer.json()["invalid_fields"]
    assert answer.status_code == 422
    assert field in (invalid["field"] or invalid["description"])


@pytest.mark.parametrize("field", ["owner", "name", "visibility", "hardware"])
async def test_what_a_model_needs_is_asked_for(
    client: httpx.AsyncClient, request_body: dict[str, Any], field: str
) -> None:
    del request_body[field]
    answer = await client.post("/v1/models", json=request_body)
    assert (answer.status_code, answer.json()["detail"]) == (422, f"- {field} is required\n")


async def test_an_account_has_no_more_models_than_it_may_however_many_at_once(
    resources: Resources, client: httpx.AsyncClient, caller: Caller, request_body: dict[str, Any]
) -> None:
    rows = [
        {"id": new_id(), "owner_id": caller.id, "name": f"full-{number}", "hardware_sku": "cpu"}
        for number in range(MAX_MODELS - 3)
    ]
    async with resources.database.transaction() as tx:
        await tx.execute(insert(Model), rows)
    posts = (client.post("/v1/models", json=request_body | {"name": f"last-{number}"}) for number in range(4))
    answers = await asyncio.gather(*posts)
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409]


# --- changing ---------------------------------------------------------------------------------------------------------

CHANGES = {
    "description": "Another",
    "readme": "# Read\nme",
    "github_url": "https://example.com/code",
    "paper_url": "https://example.com/paper",
    "weights_url": "https://example.com/weights",
    "license_url": "https://example.com/license",
    "cover_image_url": "https://example.com/cover.png",
    "visibility": "private",
}


async def test_each_field_changes_by_itself_and_null_clears_it(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    url = f"/v1/models/{(await scene.publish(caller)).model}"
    before = (await client.get(url)).json()
    for field, value in CHANGES.items():
        answer = await client.patch(url, json={field: value})
        before |= {field: value} if field in before else {}
        assert (answer.status_code, answer.json()) == (200, before)
    cleared = (await client.patch(url, json={"github_url": None})).json()
    assert cleared == before | {"github_url": None}
    assert (await client.patch(url, json={})).json() == cleared


@pytest.mark.parametrize(
    "changes",
    [{"visibility": None}, {"hardware": None}, {"name": "other"}, {"readme": 1}, {"weights_url": "ftp://x/y"}],
)
async def test_what_cannot_change_is_refused(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, changes: dict[str, Any]
) -> None:
    answer = await client.patch(f"/v1/models/{(await scene.publish(caller)).model}", json=changes)
    assert answer.status_code == 422


async def test_a_model_moves_only_to_hardware_that_is_there(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    url = f"/v1/models/{(await scene.publish(caller)).model}"
    assert (await client.patch(url, json={"hardware": "cpu"})).status_code == 200
    answer = await client.patch(url, json={"hardware": "gpu-x"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/hardware")


async def test_a_model_made_private_cannot_be_run_by_others_any_more(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada"}}
    assert (await stranger.post("/v1/predictions", json=body)).status_code == 201
    await client.patch(f"/v1/models/{published.model}", json={"visibility": "private"})
    assert (await stranger.post("/v1/predictions", json=body)).status_code == 422


@pytest.mark.parametrize(("visibility", "status"), [("public", 403), ("private", 404)])
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_only_owners_change_and_delete(
    stranger: httpx.AsyncClient, scene: Scene, caller: Caller, method: str, visibility: str, status: int
) -> None:
    published = await scene.publish(caller, visibility=visibility)
    body = {"description": "Mine"} if method == "PATCH" else None
    answer = await stranger.request(method, f"/v1/models/{published.model}", json=body)
    assert answer.status_code == status


async def test_only_a_private_model_without_versions_is_deleted(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    url = f"/v1/models/{published.model}"
    public = await client.delete(url)
    await client.patch(url, json={"visibility": "private"})
    with_versions = await client.delete(url)
    await client.delete(f"{url}/versions/{published.version}")
    deleted = await client.delete(url)
    assert [public.status_code, with_versions.status_code] == [409, 409]
    assert ("is public" in public.json()["detail"], "has versions" in with_versions.json()["detail"]) == (True, True)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await client.get(url)).status_code == (await client.delete(url)).status_code == 404


# --- READMEs ----------------------------------------------------------------------------------------------------------


async def test_a_readme_is_plain_text_as_it_was_written(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    url = f"/v1/models/{(await scene.publish(caller)).model}"
    missing = await client.get(f"{url}/readme")
    await client.patch(url, json={"readme": "# Grüße\n\n<b>*hi*</b>"})
    answer = await client.get(f"{url}/readme", headers={"Accept": "text/plain"})
    assert (missing.status_code, missing.json()["title"]) == (404, "Not found")
    assert (answer.status_code, answer.text) == (200, "# Grüße\n\n<b>*hi*</b>")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
