"""A node of another machine that runs images: in a network of its own, with an engine of its own, which pulls."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest
from sqlalchemy import select

from core import catalog
from core.tables import Version
from tests.support.docker_engine import Engine, running_engine
from tests.support.docker_images import cog_image
from tests.support.gateways import GatewayProcess, joined_node, up
from tests.support.network import Network
from tests.support.platform import PROJECTS, Platform
from tests.support.ports import free_port
from tests.support.registries import registry

pytestmark = [pytest.mark.faults, pytest.mark.docker]

COG = "0.23.1"
#: Pulling, and a container's first start, on two busy disks.
ANSWER_SECONDS = 300.0


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory, apart: Network) -> AsyncIterator[Engine]:
    async with running_engine(tmp_path_factory.mktemp("engine"), apart) as engine:
        yield engine


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """Without a node of its own, nor an engine: the images are the other machine's business."""
    async with Platform(tmp_path_factory.mktemp("images-elsewhere")) as platform:
        await platform.kill("node", signal.SIGTERM)
        yield platform


@pytest.fixture(scope="module")
async def gateway(platform: Platform, apart: Network) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(platform.resources, free_port(), apart.outside)
    await gateway.start()
    yield gateway
    await gateway.stop()


async def test_a_node_with_an_engine_of_its_own_pulls_an_image_and_answers_from_it(
    platform: Platform,
    gateway: GatewayProcess,
    engine: Engine,
    apart: Network,
    tmp_path: Path,
    docker_client: docker.DockerClient,
) -> None:
    image = await asyncio.to_thread(cog_image, docker_client, PROJECTS / "no-op-sync", COG)
    schema = json.loads(docker_client.images.get(image).labels["run.cog.openapi_schema"])
    with registry(tmp_path, address=apart.outside) as host:
        # The engine here speaks plain HTTP with none but registries of this machine, by their address on loopback.
        reference = await asyncio.to_thread(engine.take_over, image, f"{host}/tests/no-op")
        await asyncio.to_thread(engine.forget, image)
        await _publish(platform, reference, schema)
        changes = {"MILLRACE_RUNTIME": "docker", "DOCKER_HOST": engine.host, "MILLRACE_DOCKER_NETWORK": "elsewhere"}
        async with joined_node(gateway, tmp_path, "with-engine", apart.prefix, **changes) as node:
            assert (await up(gateway, node)).artifact_kinds == ["image"]
            created = await platform.client.create("millrace/no-op", {"text": "from an image"})
            ended = await platform.client.finished(created["id"], seconds=ANSWER_SECONDS)
            assert (ended["status"], ended["output"]) == ("succeeded", "from an image"), ended
            [container] = engine.containers()
            assert container.attrs["Config"]["Image"] == reference
        assert not engine.containers(), "A container has outlived its node."


async def _publish(platform: Platform, reference: str, schema: dict) -> None:
    """As a version that is prepared: only that engine speaks plain HTTP with the registry."""
    await platform.kill("jobs", signal.SIGSTOP)
    await platform.publish_image(reference, "no-op")
    async with platform.resources.database.transaction() as tx:
        [version] = await tx.all(select(Version.id))
        await catalog.prepared(tx, version.id, openapi_schema=schema, cog_version=COG, slots=1, config={})
    await platform.kill("jobs", signal.SIGCONT)
