"""Examples of a Model: predictions that its owner shows to everybody, for as long as they are there."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, update

from api.pagination import MODELS_PAGE_SIZE
from core import catalog
from core.ids import new_id
from core.resources import Resources
from core.settings import Settings
from core.tables import ModelExample, Prediction
from tests.api.rows import insert_predictions
from tests.api.scene import FILES, TEXT, Caller, Published, Scene


async def run(client: httpx.AsyncClient, scene: Scene, published: Published, output: Any = "hello", **body: Any) -> str:
    """The id of a prediction that succeeded."""
    body = {"version": published.version, "input": {"text": "Ada", "key": "a secret"}, **body}
    id = (await client.post("/v1/predictions", json=body)).json()["id"]
    await scene.finish(await scene.start(id), output)
    return id


async def run_with_files(client: httpx.AsyncClient, scene: Scene, published: Published, *names: str) -> str:
    """The same, with output files of these names."""
    body = {"version": published.version, "input": {"text": "Ada"}}
    row = await scene.start((await client.post("/v1/predictions", json=body)).json()["id"])
    files = [(await scene.output_file(row, b"bytes", name))[1] for name in names]
    await scene.finish(row, files)
    return row.id


def url_of(published: Published) -> str:
    return f"/v1/models/{published.model}/examples"


async def test_the_first_example_is_the_default_one(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    first, second = await run(client, scene, published, "one"), await run(client, scene, published, "two")
    for id in (second, first, second):
        answer = await client.post(url_of(published), json={"prediction": id})
        assert (answer.status_code, answer.json()["id"]) == (201, id)
    page = (await stranger.get(url_of(published))).json()
    model = (await stranger.get(f"/v1/models/{published.model}")).json()
    assert [item["id"] for item in page["results"]] == [second, first]
    assert (page["next"], page["previous"]) == (None, None)
    assert model["default_example"] == page["results"][0]
    assert model["default_example"]["output"] == "two"
    assert model in (await stranger.get("/v1/models")).json()["results"]


async def test_an_example_shows_nothing_that_is_its_owners_business(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    hook = {"webhook": "https://example.com/?token=abc", "webhook_events_filter": ["completed"]}
    id = await run(client, scene, published, **hook)
    await client.post(url_of(published), json={"prediction": id})
    [shown] = (await stranger.get(url_of(published))).json()["results"]
    whole = (await client.get(f"/v1/predictions/{id}")).json()
    assert whole == shown | hook
    assert "a secret" not in str(shown)
    assert (await stranger.get(f"/v1/predictions/{id}")).status_code == 404


@pytest.mark.parametrize(
    ("names", "cover"), [(("a.txt", "b.WEBP", "c.png"), "b.WEBP"), (("clip.mp4",), None), ((), None)]
)
async def test_the_first_image_of_the_default_example_is_the_cover(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, names: tuple[str, ...], cover: str | None
) -> None:
    published = await scene.publish(caller, FILES)
    id = await run_with_files(client, scene, published, *names)
    await client.post(url_of(published), json={"prediction": id})
    found = (await client.get(f"/v1/models/{published.model}")).json()["cover_image_url"]
    if cover is None:
        assert found is None
        return
    assert found.startswith(f"{api.url}/v1/outputs/")
    assert found.endswith(f"/{cover}")
    assert (await client.get(found)).content == b"bytes"
    given = "https://example.com/cover.png"
    await client.patch(f"/v1/models/{published.model}", json={"cover_image_url": given})
    assert (await client.get(f"/v1/models/{published.model}")).json()["cover_image_url"] == given


async def test_a_removed_example_is_shown_no_more(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    id = await run(client, scene, published)
    await client.post(url_of(published), json={"prediction": id})
    removed = await client.delete(f"{url_of(published)}/{id}")
    again = await client.delete(f"{url_of(published)}/{id}")
    assert (removed.status_code, removed.content, again.status_code) == (204, b"", 404)
    assert (await client.get(url_of(published))).json()["results"] == []
    assert (await client.get(f"/v1/models/{published.model}")).json()["default_example"] is None
    assert (await client.get(f"/v1/predictions/{id}")).json()["output"] == "hello"


async def test_examples_go_with_their_version(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller, visibility="private")
    old = await run(client, scene, published)
    latest = await scene.add_version(caller, published)
    new = await run(client, scene, Published(published.model, latest, ""))
    for id in (new, old):
        await client.post(url_of(published), json={"prediction": id})
    await client.delete(f"/v1/models/{published.model}/versions/{latest}")
    assert [item["id"] for item in (await client.get(url_of(published))).json()["results"]] == [old]
    assert (await client.get(f"/v1/models/{published.model}")).json()["default_example"]["id"] == old
    assert (await client.post(url_of(published), json={"prediction": new})).status_code == 409


# --- what shows nothing -----------------------------------------------------------------------------------------------


async def test_only_a_prediction_that_succeeded_can_be_an_example(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada"}}
    id = (await client.post("/v1/predictions", json=body)).json()["id"]
    for status in ("starting", "canceled"):
        answer = await client.post(url_of(published), json={"prediction": id})
        assert (answer.status_code, status in answer.json()["detail"]) == (409, True)
        await client.post(f"/v1/predictions/{id}/cancel")


async def test_a_prediction_of_another_model_is_no_example(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    one, other = await scene.publish(caller), await scene.publish(caller)
    answer = await client.post(url_of(one), json={"prediction": await run(client, scene, other)})
    assert (answer.status_code, one.model in answer.json()["detail"]) == (409, True)


async def test_a_prediction_without_its_data_is_no_example(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    id = await run(client, scene, published)
    await client.post(url_of(published), json={"prediction": id})
    async with resources.database.transaction() as tx:
        await tx.execute(update(Prediction).where(Prediction.id == id).values(data_removed=True))
    answer = await client.post(url_of(published), json={"prediction": id})
    assert (answer.status_code, "have been removed" in answer.json()["detail"]) == (409, True)
    assert (await client.get(url_of(published))).json()["results"] == []
    assert (await client.get(f"/v1/models/{published.model}")).json()["default_example"] is None


@pytest.mark.parametrize("field", ["input", "output", "logs"])
async def test_a_prediction_too_large_for_lists_of_models_is_no_example(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller, field: str
) -> None:
    published = await scene.publish(caller)
    for size, status in ((300_000, 409), (200_000, 201)):
        values = {"input": {"text": "a" * size}} if field == "input" else {field: "a" * size}
        [id] = await insert_predictions(resources, caller, published, 1, status="succeeded", **values)
        answer = await client.post(url_of(published), json={"prediction": id})
        assert (answer.status_code, "at most 262144" in answer.text) == (status, status == 409)


async def test_a_prediction_of_another_account_is_not_found(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    theirs = await run(stranger, scene, published)
    for id in (theirs, new_id(), "x"):
        assert (await client.post(url_of(published), json={"prediction": id})).status_code == 404


@pytest.mark.parametrize(("visibility", "status"), [("public", 403), ("private", 404)])
async def test_only_owners_choose_examples(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller, visibility: str, status: int
) -> None:
    published = await scene.publish(caller, TEXT, visibility)
    id = await run(client, scene, published)
    await client.post(url_of(published), json={"prediction": id})
    assert (await stranger.post(url_of(published), json={"prediction": id})).status_code == status
    assert (await stranger.delete(f"{url_of(published)}/{id}")).status_code == status


async def test_examples_of_one_moment_come_in_pages(
    resources: Resources, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    count = 2 * MODELS_PAGE_SIZE + 1
    ids = await insert_predictions(resources, caller, published, count, status="succeeded", output="hello")
    async with resources.database.transaction() as tx:
        model = await catalog.get_model(tx, caller.id, *published.model.split("/"))
        common = {"model_id": model.id, "created_at": datetime(2026, 1, 2, tzinfo=UTC)}
        await tx.execute(insert(ModelExample), [{"prediction_id": id, **common} for id in ids])
    pages, url = [], url_of(published)
    while url:
        page = (await client.get(url)).json()
        pages.append([item["id"] for item in page["results"]])
        url = page["next"]
    assert [id for page in pages for id in page] == sorted(ids)
    assert len(pages) == 3
