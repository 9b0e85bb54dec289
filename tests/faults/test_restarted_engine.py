"""dockerd is restarted under its containers: without live-restore they end with it. On an engine of the test's own."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import docker
import pytest
from sqlalchemy import select

from core import catalog
from core.lifecycle import FailureCode
from core.tables import Version
from tests.faults.load import rows_of
from tests.faults.recovery import recovery
from tests.support.docker_engine import Engine, running_engine
from tests.support.docker_images import cog_image
from tests.support.invariants import check_invariants
from tests.support.network import Network
from tests.support.platform import PROJECTS, Platform
from tests.support.registries import registry

pytestmark = [pytest.mark.faults, pytest.mark.docker]

COG = "0.23.1"


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory, apart: Network) -> AsyncIterator[Engine]:
    async with running_engine(tmp_path_factory.mktemp("engine"), apart) as engine:
        yield engine


@pytest.fixture(scope="module")
async def platform(
    tmp_path_factory: pytest.TempPathFactory, docker_client: docker.DockerClient, engine: Engine, apart: Network
) -> AsyncIterator[Platform]:
    image = await asyncio.to_thread(cog_image, docker_client, PROJECTS / "sleeper", COG)
    schema = json.loads(docker_client.images.get(image).labels["run.cog.openapi_schema"])
    with (
        registry(tmp_path_factory.mktemp("apart-registry"), address=apart.outside) as host,
        pytest.MonkeyPatch.context() as patch,
    ):
        reference = await asyncio.to_thread(engine.take_over, image, f"{host}/tests/sleeper")
        patch.setenv("DOCKER_HOST", engine.host)
        data = tmp_path_factory.mktemp("restarted")
        async with Platform(data, {"node": apart.prefix}, runtime="docker") as platform:
            await _publish(platform, reference, schema)
            yield platform


async def _publish(platform: Platform, reference: str, schema: dict[str, Any]) -> None:
    """As a version that is prepared: only that engine speaks plain HTTP with the registry."""
    await platform.kill("jobs", signal.SIGSTOP)
    await platform.publish_image(reference, "sleeper")
    async with platform.resources.database.transaction() as tx:
        [id] = await tx.all(select(Version.id))
        await catalog.prepared(tx, id.id, openapi_schema=schema, cog_version=COG, slots=1, config={})
    await platform.kill("jobs", signal.SIGCONT)


async def test_a_restarted_engine_fails_what_ran_with_a_reason_and_runs_what_comes(
    platform: Platform, engine: Engine
) -> None:
    created = await platform.client.create("millrace/sleeper", {"seconds": 600})
    await platform.client.until(created["id"], "processing")
    await engine.restart()
    with recovery("dockerd restarted"):
        ended = await platform.client.finished(created["id"])
        next_one = await platform.client.create("millrace/sleeper", {"text": "next", "seconds": 0})
        assert (await platform.client.finished(next_one["id"]))["output"] == "next"
    assert ended["status"] == "failed", ended
    [row] = await rows_of(platform, [created["id"]])
    assert row.failure_code == FailureCode.CONTAINER_LOST, row.error
    await check_invariants(platform, [created["id"], next_one["id"]])
