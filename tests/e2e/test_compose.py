"""The main job through docker-compose.yml: a model as a process, and a model as a container."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import docker
import pytest

from tests.support.compose import TOKEN, Compose, compose
from tests.support.docker_fixtures import PROJECTS
from tests.support.docker_images import cog_image, push, untag
from tests.support.gateways import node_process

pytestmark = pytest.mark.docker

# The environment of the first model is installed meanwhile, or an image pulled and a container started.
ANSWER_SECONDS = 300

PUBLISH_IMAGE = """
import asyncio
from core import catalog
from core.people import accounts
from core.hardware import CPU
from core.resources import open_resources
from core.settings import get_settings

async def main():
    settings = get_settings()
    async with open_resources(settings) as resources, resources.database.transaction() as tx:
        owner = await accounts.ensure(tx, settings.admin_username, settings.admin_username)
        model = await catalog.ensure_model(tx, owner.id, "no-op", CPU.sku, visibility="private")
        rest = dict(config={{}}, cog_version="", slots=1, timeout_seconds=60, setup_timeout_seconds=60)
        print(await catalog.publish(tx, model.id, "image", {reference!r}, **rest))

asyncio.run(main())
"""

CONNECT = """
import socket
try: print(socket.create_connection(({address!r}, 5432), timeout=3))
except OSError as error: print(error)
"""


@pytest.fixture(scope="module")
def installation(docker_client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    with compose(docker_client, tmp_path_factory.mktemp("compose")) as installation:
        yield installation
    untag(docker_client, installation.registry)
    network = f"{installation.name}-models"
    for left in docker_client.networks.list(names=[network]):
        left.remove()
    assert not _containers(docker_client, installation), "a model container outlived docker-compose down"


async def predict(installation: Compose, body: dict[str, Any]) -> dict[str, Any]:
    """Asks, and waits for the end."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Prefer": "wait=60"}
    prediction: dict[str, Any] = {"status": "starting"}
    try:
        async with aiohttp.ClientSession(installation.url, headers=headers) as http, asyncio.timeout(ANSWER_SECONDS):
            async with http.post("/v1/predictions", json=body) as response:
                prediction = await response.json()
                assert response.status in (201, 202), prediction
            while prediction["status"] in ("starting", "processing"):
                await asyncio.sleep(0.5)
                async with http.get(f"/v1/predictions/{prediction['id']}") as response:
                    prediction = await response.json()
    except TimeoutError:
        pytest.fail(f"No end after {ANSWER_SECONDS} s: {prediction}\n{await asyncio.to_thread(installation.logs)}")
    assert prediction["status"] == "succeeded", f"{prediction}\n{await asyncio.to_thread(installation.logs)}"
    return prediction


async def test_the_default_profile_answers_a_prediction(installation: Compose) -> None:
    prediction = await predict(installation, {"version": "millrace/hello-world", "input": {"text": "Ada"}})
    assert prediction["output"] == "hello Ada"


async def test_the_docker_profile_answers_from_a_container_that_reaches_no_database(
    installation: Compose, docker_client: docker.DockerClient
) -> None:
    await asyncio.to_thread(installation.up, "--profile", "docker")
    image = await asyncio.to_thread(cog_image, docker_client, PROJECTS / "no-op-sync")
    reference = await asyncio.to_thread(push, docker_client, image, f"{installation.registry}/tests/no-op")
    script = PUBLISH_IMAGE.format(reference=reference)
    version = await asyncio.to_thread(installation.run, "exec", "-T", "api", "python", "-", given=script)

    prediction = await predict(installation, {"version": version.strip(), "input": {"text": "Ada"}})
    assert prediction["output"] == "Ada"

    [container] = _containers(docker_client, installation)
    assert container.attrs["Config"]["Image"] == reference
    [database] = docker_client.containers.list(filters={"name": f"{installation.name}_postgres"})
    [address] = [network["IPAddress"] for network in database.attrs["NetworkSettings"]["Networks"].values()]
    connect = ["python", "-c", CONNECT.format(address=address)]
    assert "timed out" in (await asyncio.to_thread(container.exec_run, connect)).output.decode()


async def test_a_machine_outside_joins_through_the_gateway_profile_and_answers(
    installation: Compose, tmp_path: Path
) -> None:
    run = partial(asyncio.to_thread, installation.run)
    await asyncio.to_thread(installation.up, "--profile", "gateway")
    address = f"127.0.0.1:{installation.gateway_port}"
    token = await run("exec", "-T", "gateway", "millrace", "join-token", "create", "--address", address)
    await run("stop", "node")
    outside = node_process(token.strip(), tmp_path, "outside")
    outside.start()
    try:
        prediction = await predict(installation, {"version": "millrace/hello-world", "input": {"text": "outside"}})
        assert prediction["output"] == "hello outside", outside.tail()
        assert "outside" in await run("exec", "-T", "gateway", "millrace", "joined")
    finally:
        await outside.stop()
        await run("start", "node")


def _containers(client: docker.DockerClient, installation: Compose) -> list[Any]:
    return client.containers.list(all=True, filters={"label": f"millrace.installation={installation.name}"})
