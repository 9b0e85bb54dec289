"""Models, deployments, trainings and collections: each official client, unchanged, sees the same."""

import pytest

from core.ids import new_id
from tests.api.scene import Caller, Scene
from tests.contract.clients import CLIENTS, Script, resources_script
from tests.support.platform import Platform

HELLO = "millrace/hello-world"


@pytest.fixture
async def account(models: Platform) -> Caller:
    return await Scene(models.resources).caller()


@pytest.fixture
async def version(models: Platform) -> str:
    answer = await models.client.request("GET", f"/models/{HELLO}")
    return answer.body["latest_version"]["id"]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, account: Caller) -> Script:
    """One client after the other, speaking for an account of its own."""
    return resources_script(request).speaking_for(account.token)


async def test_a_model_is_created_listed_found_and_deleted(client: Script, account: Caller) -> None:
    name = f"model-{new_id()}"
    seen = await client("models", owner=account.username, name=name)
    assert seen == {
        "created": [f"{account.username}/{name}", "private", "Mine"],
        "listed": True,
        "found": True,
        "deleted": True,
        "after": {"status": 404, "detail": "The requested model could not be found."},
    }


async def test_an_unknown_hardware_is_refused_with_the_names_of_those_there_are(
    client: Script, account: Caller
) -> None:
    refused = await client("bad_hardware", owner=account.username, name=f"model-{new_id()}")
    assert refused["status"] == 400
    assert "cpu" in refused["detail"]


async def test_a_deployment_lives_from_its_first_release_to_its_end(
    client: Script, account: Caller, version: str
) -> None:
    name = f"deployment-{new_id()}"
    seen = await client(
        "deployments", owner=account.username, name=name, model=HELLO, version=version, input={"text": "Ada"}
    )
    deleted = seen.pop("deleted")
    assert seen == {
        "created": [f"{account.username}/{name}", 1, HELLO],
        "creator": account.username,
        "listed": True,
        "output": "hello Ada",
        "updated": [2, 2],
    }
    assert deleted["status"] == 409, "It was in use a moment ago."


async def test_no_version_has_a_trainer_and_every_client_is_told_so(
    client: Script, account: Caller, version: str, models: Platform
) -> None:
    scene = Scene(models.resources)
    mine = (await scene.publish(account, visibility="private")).model
    seen = await client("trainings", model=HELLO, version=version, destination=mine)
    assert seen["untrainable"]["status"] == 422
    assert "train" in seen["untrainable"]["detail"]
    assert seen["nowhere"]["status"] == 404
    assert seen["listed"] == []
    assert (seen["got"]["status"], seen["canceled"]["status"]) == (404, 404)


async def test_a_collection_is_shown_with_its_models(client: Script, models: Platform) -> None:
    slug = f"greetings-{new_id()}"
    body = {"name": "Greetings", "description": "Say hello", "models": [HELLO]}
    await models.client.request("PUT", f"/collections/{slug}", body)
    assert await client("collections", slug=slug) == {
        "listed": True,
        "got": ["Greetings", "Say hello"],
        "models": [HELLO],
    }


@pytest.mark.parametrize("client", ["python2"], indirect=True)
async def test_what_only_the_newest_client_has(client: Script, account: Caller) -> None:
    assert HELLO in await client("search", query="hello")
    seen = await client("readme_and_examples", owner=account.username, name=f"model-{new_id()}")
    assert seen == {"readme": "# Hello", "description": "Changed", "examples": []}
