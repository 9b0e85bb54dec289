"""Versions of a Model over HTTP: listed, shown, and deleted where nobody misses them."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, update

from api.pagination import MODELS_PAGE_SIZE
from core import catalog
from core.ids import new_id
from core.resources import Resources
from core.tables import Deployment, Release, Version
from tests.api.scene import Caller, Published, Scene


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


async def test_a_version_belongs_to_its_model(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    one, other = await scene.publish(caller), await scene.publish(caller)
    answer = await client.get(f"/v1/models/{one.model}/versions/{other.version}")
    assert (answer.status_code, answer.json()["detail"]) == (404, "The requested version could not be found.")


async def test_versions_of_one_moment_come_in_pages(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    ids = [published.version, *[await scene.add_version(caller, published) for _ in range(2 * MODELS_PAGE_SIZE)]]
    async with resources.database.transaction() as tx:
        moment = datetime(2026, 1, 2, tzinfo=UTC)
        await tx.execute(update(Version).where(Version.id.in_(ids)).values(created_at=moment))
    pages, url = [], f"/v1/models/{published.model}/versions"
    while url:
        page = (await client.get(url)).json()
        pages.append([item["id"] for item in page["results"]])
        url = page["next"]
    assert [id for page in pages for id in page] == sorted(ids, reverse=True)
    assert len(pages) == 3


# --- deleting ---------------------------------------------------------------------------------------------------------


def url_of(published: Published, version: str | None = None) -> str:
    return f"/v1/models/{published.model}/versions/{version or published.version}"


async def test_a_deleted_version_is_gone_everywhere_at_once(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller, visibility="private")
    latest = await scene.add_version(caller, published)
    body = {"version": latest, "input": {"text": "Ada"}}
    assert (await client.post("/v1/predictions", json=body)).status_code == 201
    answer = await client.delete(url_of(published, latest))
    assert (answer.status_code, answer.content) == (202, b"")
    listed = (await client.get(f"/v1/models/{published.model}/versions")).json()["results"]
    model = (await client.get(f"/v1/models/{published.model}")).json()
    assert [item["id"] for item in listed] == [published.version]
    assert model["latest_version"]["id"] == published.version
    for reference in (latest, f"{published.model}:{latest}"):
        answer = await client.post("/v1/predictions", json=body | {"version": reference})
        assert (answer.status_code, answer.json()["title"]) == (422, "Invalid version or not permitted")
    by_model = await client.post(f"/v1/models/{published.model}/predictions", json={"input": {"text": "Ada"}})
    assert by_model.json()["version"] == published.version
    for method in ("GET", "DELETE"):
        assert (await client.request(method, url_of(published, latest))).status_code == 404
    assert (await client.patch(url_of(published, latest), json={"caches_results": True})).status_code == 404


async def test_without_its_last_version_a_model_has_no_latest(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller, visibility="private")
    await client.delete(url_of(published))
    assert (await client.get(f"/v1/models/{published.model}")).json()["latest_version"] is None
    answer = await client.post("/v1/predictions", json={"version": published.model, "input": {}})
    assert answer.status_code == 422


async def test_deleting_an_older_version_leaves_the_latest_alone(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller, visibility="private")
    latest = await scene.add_version(caller, published)
    await client.delete(url_of(published))
    assert (await client.get(f"/v1/models/{published.model}")).json()["latest_version"]["id"] == latest


async def test_the_scheduler_still_sees_a_deleted_version(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller, visibility="private")
    await client.delete(url_of(published))
    await client.delete(f"/v1/models/{published.model}")
    async with resources.database.autocommit() as tx:
        assert published.version in await catalog.versions_by_id(tx, [published.version])


async def test_a_version_of_a_public_model_is_kept(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    answer = await client.delete(url_of(await scene.publish(caller)))
    assert (answer.status_code, "is public" in answer.json()["detail"]) == (409, True)


async def test_a_version_that_others_have_run_is_kept(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    for who in (client, stranger):
        created = await who.post("/v1/predictions", json={"version": published.version, "input": {"text": "Ada"}})
        await scene.finish(await scene.start(created.json()["id"]), "hello Ada")
    await client.patch(f"/v1/models/{published.model}", json={"visibility": "private"})
    answer = await client.delete(url_of(published))
    assert (answer.status_code, "Other accounts have run" in answer.json()["detail"]) == (409, True)


@pytest.mark.parametrize("state", ["waiting", "running", "canceled"])
async def test_a_version_that_others_asked_for_is_kept_though_nothing_was_charged(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller, state: str
) -> None:
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada"}}
    created = (await stranger.post("/v1/predictions", json=body)).json()
    if state == "running":
        await scene.start(created["id"])
    if state == "canceled":
        await stranger.post(f"/v1/predictions/{created['id']}/cancel")
    await client.patch(f"/v1/models/{published.model}", json={"visibility": "private"})
    answer = await client.delete(url_of(published))
    assert (answer.status_code, "Other accounts have run" in answer.json()["detail"]) == (409, True)


async def test_a_version_that_only_its_owner_has_run_may_go(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller, visibility="private")
    created = await client.post("/v1/predictions", json={"version": published.version, "input": {"text": "Ada"}})
    await scene.finish(await scene.start(created.json()["id"]), "hello Ada")
    assert (await client.delete(url_of(published))).status_code == 202


async def deploy(resources: Resources, caller: Caller, name: str, *releases: tuple[Published, str]) -> None:
    """A Deployment whose current Release is the last one given."""
    id = new_id()
    common = {"deployment_id": id, "hardware_sku": "cpu", "min_instances": 0, "max_instances": 1}
    async with resources.database.transaction() as tx:
        values = {"id": id, "owner_id": caller.id, "name": name, "release_number": len(releases)}
        await tx.execute(insert(Deployment).values(**values))
        for number, (published, version) in enumerate(releases, 1):
            row = {"number": number, "model": published.model, "version_id": version, "created_by": caller.id}
            await tx.execute(insert(Release).values(**common, **row))


async def test_a_version_that_a_deployment_runs_now_is_kept_and_one_it_ran_may_go(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller, visibility="private")
    latest = await scene.add_version(caller, published)
    await deploy(resources, caller, "my-app", (published, published.version), (published, latest))
    used = await client.delete(url_of(published, latest))
    assert (used.status_code, f"{caller.username}/my-app" in used.json()["detail"]) == (409, True)
    assert (await client.delete(url_of(published))).status_code == 202


async def test_another_accounts_deployment_keeps_a_version_and_its_name_to_itself(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published, other = await scene.publish(caller, visibility="private"), await scene.caller()
    await deploy(resources, other, "secret-plan", (published, published.version))
    kept = await client.delete(url_of(published))
    assert (kept.status_code, "Another account's deployment" in kept.json()["detail"]) == (409, True)
    assert other.username not in kept.text
    assert "secret-plan" not in kept.text
    await deploy(resources, caller, "my-app", (published, published.version))
    assert f"{caller.username}/my-app" in (await client.delete(url_of(published))).json()["detail"]


@pytest.mark.parametrize(("visibility", "status"), [("public", 403), ("private", 404)])
@pytest.mark.parametrize(("method", "body"), [("DELETE", None), ("PATCH", {"caches_results": True})])
async def test_only_owners_change_and_delete_versions(
    stranger: httpx.AsyncClient, scene: Scene, caller: Caller, method: str, body: Any, visibility: str, status: int
) -> None:
    published = await scene.publish(caller, visibility=visibility)
    assert (await stranger.request(method, url_of(published), json=body)).status_code == status


async def test_a_deleted_version_comes_back_when_it_is_published_again(
    client: httpx.AsyncClient, caller: Caller, scene: Scene
) -> None:
    await scene.publish(caller)
    url = f"/v1/models/{caller.username}/returning/versions"
    image = {"image": f"registry.example.com/me/returning@sha256:{'cd' * 32}"}
    first = (await client.post(url, json=image)).json()
    assert (await client.delete(f"{url}/{first['id']}")).status_code == 202
    again = (await client.post(url, json=image)).json()
    assert again["id"] == first["id"]
    assert again["created_at"] > first["created_at"]
    assert [item["id"] for item in (await client.get(url)).json()["results"]] == [first["id"]]


# --- results that may be used again -----------------------------------------------------------------------------------


async def test_an_owner_says_whether_results_may_be_used_again(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    shown = (await client.get(url_of(published))).json()
    for caches_results in (True, False):
        answer = await client.patch(url_of(published), json={"caches_results": caches_results})
        assert (answer.status_code, answer.json()) == (200, shown)
        async with resources.database.autocommit() as tx:
            assert (await catalog.get_version(tx, published.version)).caches_results is caches_results


@pytest.mark.parametrize("body", [{}, {"caches_results": None}, {"caches_results": "yes"}, {"slots": 2}])
async def test_nothing_that_runs_can_be_changed(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, body: dict[str, Any]
) -> None:
    assert (await client.patch(url_of(await scene.publish(caller)), json=body)).status_code == 422
