"""Trainings over HTTP, where no Version has a trainer: what is refused, in which order, and what there is none of."""

from typing import Any

import httpx
import pytest

from core.ids import new_id
from tests.api.scene import Caller, Published, Scene


@pytest.fixture
async def published(scene: Scene, caller: Caller) -> Published:
    return await scene.publish(caller)


def url_of(published: Published, version: str | None = None) -> str:
    return f"/v1/models/{published.model}/versions/{version or published.version}/trainings"


def body_of(destination: str, **fields: Any) -> dict[str, Any]:
    return {"destination": destination, "input": {"train_data": "https://example.com/data.zip"}, **fields}


async def test_a_version_without_a_trainer_says_so(client: httpx.AsyncClient, published: Published) -> None:
    answer = await client.post(url_of(published), json=body_of(published.model))
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (422, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"] == f"Version {published.version} of {published.model} has no trainer on this server."


async def test_what_clients_send_along_is_tolerated_and_nothing_else(
    client: httpx.AsyncClient, published: Published
) -> None:
    """Go names the version once more, Python 1.x knows `webhook_completed`."""
    extra = {
        "version": published.version,
        "webhook": "https://example.com/hook",
        "webhook_events_filter": ["start", "completed"],
        "webhook_completed": "https://example.com/hook",
    }
    answer = await client.post(url_of(published), json=body_of(published.model, **extra))
    assert "has no trainer" in answer.json()["detail"]
    refused = await client.post(url_of(published), json=body_of(published.model, surprise=1))
    assert refused.json()["invalid_fields"][0]["type"] == "additional_property_not_allowed"


async def test_the_version_is_looked_for_before_the_destination(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller, published: Published
) -> None:
    private = await scene.publish(caller, visibility="private")
    nowhere = body_of("not a name")
    for who, url in ((client, url_of(published, "0" * 64)), (stranger, url_of(private))):
        answer = await who.post(url, json=nowhere)
        assert answer.status_code == 404, answer.text


@pytest.mark.parametrize("destination", ["no-owner", "/", "a/", "/b", "a/b/c"])
async def test_a_destination_that_is_no_name_is_an_invalid_field(
    client: httpx.AsyncClient, published: Published, destination: str
) -> None:
    answer = await client.post(url_of(published), json=body_of(destination))
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "destination")


async def test_a_destination_must_be_a_model_of_ones_own(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, published: Published
) -> None:
    others = await scene.publish(await scene.caller())
    for destination in (f"{caller.username}/no-such-model", others.model, f"{new_id()}/model"):
        answer = await client.post(url_of(published), json=body_of(destination))
        assert (answer.status_code, answer.json()["status"]) == (404, 404)
        assert destination in answer.json()["detail"]


async def test_anybody_who_sees_a_version_may_ask_to_train_it(
    stranger: httpx.AsyncClient, scene: Scene, published: Published
) -> None:
    """The destination is the stranger's, so only that is in the way."""
    answer = await stranger.post(url_of(published), json=body_of(published.model))
    assert answer.status_code == 404
    assert "destination" in answer.json()["detail"]


async def test_there_are_no_trainings(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/trainings")
    assert (answer.status_code, answer.json()) == (200, {"next": None, "previous": None, "results": []})


async def test_a_training_that_is_not_there_is_not_found(client: httpx.AsyncClient, published: Published) -> None:
    """A prediction is no training, either."""
    body = {"version": published.version, "input": {"text": "Ada"}}
    prediction = (await client.post("/v1/predictions", json=body)).json()
    for id in (new_id(), prediction["id"]):
        for answer in (await client.get(f"/v1/trainings/{id}"), await client.post(f"/v1/trainings/{id}/cancel")):
            assert (answer.status_code, answer.json()["detail"]) == (404, "The requested training could not be found.")
    assert (await client.get(f"/v1/predictions/{prediction['id']}")).json()["status"] == "starting"
