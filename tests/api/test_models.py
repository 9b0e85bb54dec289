"""Models and Versions over HTTP."""

import re

import httpx
import pytest

from api.pagination import MODELS_PAGE_SIZE
from core.settings import Settings
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


async def test_a_version_that_is_not_prepared_still_has_a_schema(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    """Python 1.x raises without one, and old clients look into `Output` without asking whether it is there."""
    published = await scene.publish(caller, None)
    version = (await client.get(f"/v1/models/{published.model}/versions/{published.version}")).json()
    assert version["status"] == "preparing"
    assert isinstance(version["cog_version"], str)
    assert set(version["openapi_schema"]["components"]["schemas"]) == {"Input", "Output"}


async def test_versions_are_listed_newest_first(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    newest = await scene.add_version(caller, published)
    page = (await client.get(f"/v1/models/{published.model}/versions")).json()
    assert [item["id"] for item in page["results"]] == [newest, published.version]
    assert (page["next"], page["previous"]) == (None, None)
    one = await client.get(f"/v1/models/{published.model}/versions/{newest}")
    assert one.json() == page["results"][0]


async def test_runs_are_counted(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada"}}
    created = (await client.post("/v1/predictions", json=body)).json()
    await scene.finish(await scene.start(created["id"]), "hello Ada")
    assert (await client.get(f"/v1/models/{published.model}")).json()["run_count"] == 1


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


@pytest.mark.parametrize("path", ["", "/versions", "/versions/{version}"])
async def test_a_private_model_is_found_by_its_owner_only(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller, path: str
) -> None:
    published = await scene.publish(caller, visibility="private")
    url = f"/v1/models/{published.model}{path.format(version=published.version)}"
    assert (await client.get(url)).status_code == 200
    answer = await stranger.get(url)
    assert (answer.status_code, answer.json()["detail"]) == (404, "The requested model could not be found.")
    listed = (await stranger.get("/v1/models")).json()["results"]
    assert published.model not in [f"{item['owner']}/{item['name']}" for item in listed]


async def test_a_version_belongs_to_its_model(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    one, other = await scene.publish(caller), await scene.publish(caller)
    answer = await client.get(f"/v1/models/{one.model}/versions/{other.version}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "The requested version could not be found.")
