"""Collections: made by an admin, read by everybody, and each reader sees in them what they may see."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, insert, update

from api.pagination import MODELS_PAGE_SIZE
from core.ids import new_id
from core.people import tokens
from core.people.tokens import Scope
from core.resources import Resources
from core.settings import Settings
from core.tables import Account, Collection
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


@pytest.fixture
def slug() -> str:
    return f"group-{new_id()}"


async def test_an_admin_makes_a_collection_that_everybody_reads(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, scene: Scene, caller: Caller, slug: str
) -> None:
    models = [(await scene.publish(caller)).model for _ in range(3)]
    body = {"name": "Upscalers", "description": "Larger", "full_description": "# Large", "models": models[::-1]}
    put = await admin.put(f"/v1/collections/{slug}", json=body)
    got = await client.get(f"/v1/collections/{slug}")
    listed = (await client.get("/v1/collections")).json()["results"]
    shown = got.json()
    assert (put.status_code, got.status_code, put.json()) == (200, 200, shown)
    assert {key: shown[key] for key in ("slug", "name", "description", "full_description")} == {
        "slug": slug,
        **{key: body[key] for key in ("name", "description", "full_description")},
    }
    assert [f"{model['owner']}/{model['name']}" for model in shown["models"]] == models[::-1]
    assert shown["models"][0] == (await client.get(f"/v1/models/{models[-1]}")).json()
    assert listed[0] == {"name": "Upscalers", "slug": slug, "description": "Larger"}


async def test_putting_again_replaces_all_of_it(
    admin: httpx.AsyncClient, scene: Scene, caller: Caller, slug: str
) -> None:
    one, other = [(await scene.publish(caller)).model for _ in range(2)]
    await admin.put(f"/v1/collections/{slug}", json={"name": "A", "description": "B", "models": [one, other]})
    answer = await admin.put(f"/v1/collections/{slug}", json={"name": "C", "models": [other, other]})
    shown = answer.json()
    names = [f"{model['owner']}/{model['name']}" for model in shown.pop("models")]
    assert names == [other]
    assert shown == {"slug": slug, "name": "C", "description": "", "full_description": None}


async def test_a_private_model_is_in_a_collection_for_its_owner_only(
    admin: httpx.AsyncClient, client: httpx.AsyncClient, scene: Scene, caller: Caller, slug: str
) -> None:
    published = await scene.publish(caller)
    await admin.put(f"/v1/collections/{slug}", json={"name": "A", "models": [published.model]})
    await client.patch(f"/v1/models/{published.model}", json={"visibility": "private"})
    assert (await admin.get(f"/v1/collections/{slug}")).json()["models"] == []
    assert len((await client.get(f"/v1/collections/{slug}")).json()["models"]) == 1


async def test_what_the_admin_cannot_see_cannot_be_put_into_one(
    admin: httpx.AsyncClient, scene: Scene, caller: Caller, slug: str
) -> None:
    private = (await scene.publish(caller, visibility="private")).model
    for model in (private, "nobody/nothing", "not-a-name"):
        answer = await admin.put(f"/v1/collections/{slug}", json={"name": "A", "models": [model]})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/models")
        assert model in answer.json()["detail"]
    assert (await admin.get(f"/v1/collections/{slug}")).status_code == 404


async def test_a_deleted_collection_is_gone_and_its_models_stay(
    admin: httpx.AsyncClient, scene: Scene, caller: Caller, slug: str
) -> None:
    published = await scene.publish(caller)
    await admin.put(f"/v1/collections/{slug}", json={"name": "A", "models": [published.model]})
    deleted = await admin.delete(f"/v1/collections/{slug}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await admin.get(f"/v1/collections/{slug}")).status_code == 404
    assert (await admin.delete(f"/v1/collections/{slug}")).status_code == 404
    assert (await admin.get(f"/v1/models/{published.model}")).status_code == 200


async def test_only_admins_change_collections(admin: httpx.AsyncClient, client: httpx.AsyncClient, slug: str) -> None:
    await admin.put(f"/v1/collections/{slug}", json={"name": "A"})
    put = await client.put(f"/v1/collections/{slug}", json={"name": "B"})
    deleted = await client.delete(f"/v1/collections/{slug}")
    assert (put.status_code, deleted.status_code) == (403, 403)
    assert "no admin" in put.json()["detail"]
    assert (await client.get(f"/v1/collections/{slug}")).json()["name"] == "A"


async def test_a_token_without_the_scope_changes_none_even_an_admins(
    api: Settings, resources: Resources, admin_account: Caller, slug: str
) -> None:
    async with resources.database.transaction() as tx:
        _, token = await tokens.create(tx, new_id(), admin_account.id, "writer", [Scope.READ, Scope.WRITE])
    async with client_of(api, token) as reader:
        answer = await reader.put(f"/v1/collections/{slug}", json={"name": "A"})
    assert (answer.status_code, "`admin`" in answer.json()["detail"]) == (403, True)


@pytest.mark.parametrize("slug", ["Upper", "two words", "-a", "a_b", "a" * 101, "%00"])
async def test_a_slug_is_lower_case_with_dashes(admin: httpx.AsyncClient, slug: str) -> None:
    assert (await admin.put(f"/v1/collections/{slug}", json={"name": "A"})).status_code == 422


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "A", "description": None}, {"name": "A", "models": "a/b"}])
async def test_a_collection_needs_a_name_and_its_description_is_never_null(
    admin: httpx.AsyncClient, slug: str, body: dict[str, Any]
) -> None:
    assert (await admin.put(f"/v1/collections/{slug}", json=body)).status_code == 422


async def test_collections_of_one_moment_come_in_pages(resources: Resources, client: httpx.AsyncClient) -> None:
    moment = datetime(2100, 1, 2, tzinfo=UTC)
    slugs = [f"page-{new_id()}" for _ in range(2 * MODELS_PAGE_SIZE + 1)]
    rows = [{"slug": slug, "name": slug, "description": "", "created_at": moment} for slug in slugs]
    async with resources.database.transaction() as tx:
        await tx.execute(insert(Collection), rows)
    pages, url = [], "/v1/collections"
    while url and len(pages) < 3:
        page = (await client.get(url)).json()
        pages.append([item["slug"] for item in page["results"]])
        url = page["next"]
    async with resources.database.transaction() as tx:
        await tx.execute(delete(Collection).where(Collection.slug.in_(slugs)))
    assert [slug for page in pages for slug in page if slug in slugs] == sorted(slugs, reverse=True)
