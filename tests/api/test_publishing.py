"""An image becomes a Version of a Model over HTTP."""

import asyncio

import httpx
import pytest

from core import catalog
from core.ids import new_id
from core.resources import Resources
from tests.api.scene import Caller, Scene

DIGEST = "sha256:" + "ab" * 32
IMAGE = f"registry.example.com:5000/me/my-model@{DIGEST}"


@pytest.fixture(autouse=True)
async def hardware(scene: Scene, caller: Caller) -> None:
    """The CPU, which every installation has, comes with the first Model."""
    await scene.publish(caller)


async def test_an_image_by_digest_becomes_the_latest_version_of_a_new_private_model(
    client: httpx.AsyncClient, caller: Caller
) -> None:
    answer = await client.post(f"/v1/models/{caller.username}/fresh/versions", json={"image": IMAGE})
    model = (await client.get(f"/v1/models/{caller.username}/fresh")).json()
    assert answer.status_code == 201
    assert answer.json()["status"] == "preparing"
    assert (model["visibility"], model["latest_version"]["id"]) == ("private", answer.json()["id"])


async def test_the_same_image_again_is_the_same_version(client: httpx.AsyncClient, caller: Caller) -> None:
    path = f"/v1/models/{caller.username}/again/versions"
    first, second = [(await client.post(path, json={"image": IMAGE})).json()["id"] for _ in range(2)]
    assert first == second


async def test_nobody_publishes_under_another_name(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/models/somebody-else/model/versions", json={"image": IMAGE})
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")


@pytest.mark.parametrize("image", ["my-model", "registry.example.com/me/my-model:latest", f"my-model@{DIGEST}", ""])
async def test_an_image_without_a_registry_or_digest_is_refused(
    client: httpx.AsyncClient, caller: Caller, image: str
) -> None:
    answer = await client.post(f"/v1/models/{caller.username}/bad/versions", json={"image": image})
    missing = await client.get(f"/v1/models/{caller.username}/bad")
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "image")
    assert missing.status_code == 404


async def test_unknown_hardware_is_refused_with_the_list(client: httpx.AsyncClient, caller: Caller) -> None:
    body = {"image": IMAGE, "hardware": "gpu-from-the-future"}
    answer = await client.post(f"/v1/models/{caller.username}/bad/versions", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/hardware")
    assert "cpu" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["Upper", "-dash", "dot.", "two%20words", "%C3%A9", "a" * 101])
async def test_a_new_model_has_a_plain_name(client: httpx.AsyncClient, caller: Caller, name: str) -> None:
    answer = await client.post(f"/v1/models/{caller.username}/{name}/versions", json={"image": IMAGE})
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "model_name")


async def test_publishing_may_move_a_model_to_other_hardware(
    client: httpx.AsyncClient, caller: Caller, resources: Resources
) -> None:
    sku = f"h-{new_id()}"
    async with resources.database.transaction() as tx:
        await catalog.put_hardware(tx, sku, sku, 1)
    path = f"/v1/models/{caller.username}/moved/versions"
    for body in ({"image": IMAGE}, {"image": IMAGE, "hardware": sku}, {"image": IMAGE}):
        assert (await client.post(path, json=body)).status_code == 201
    async with resources.database.autocommit() as tx:
        assert (await catalog.get_model(tx, caller.id, caller.username, "moved")).hardware_sku == sku


async def test_the_first_two_versions_at_once_are_two_of_one_model(client: httpx.AsyncClient, caller: Caller) -> None:
    path = f"/v1/models/{caller.username}/together/versions"
    images = [f"registry.example.com/me/my-model@sha256:{digit * 64}" for digit in "12"]
    answers = await asyncio.gather(*(client.post(path, json={"image": image}) for image in images))
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len((await client.get(path)).json()["results"]) == 2
