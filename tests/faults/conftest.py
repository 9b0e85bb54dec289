"""Platforms to be broken, in both runtimes, and a receiver of their webhooks. Each test finds everything up."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.load import MODELS
from tests.support.platform import PROJECTS, Platform
from tests.support.receiver import Receiver, running_receiver

COG = "0.23.1"


@pytest.fixture(scope="session", params=["process", pytest.param("docker", marks=pytest.mark.docker)])
async def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """With the models that `load` runs, ready."""
    images = {}
    if request.param == "docker":
        build = request.getfixturevalue("model_image")
        images = {name: build(name, COG) for name in MODELS}
    async with Platform(tmp_path_factory.mktemp(f"faults-{request.param}"), runtime=request.param) as platform:
        models = [
            await (platform.publish_image(images[name], name) if images else platform.publish(PROJECTS / name))
            for name in MODELS
        ]
        await platform.wait_ready(*models)
        yield platform


@pytest.fixture
async def broken(prepared: Platform) -> Platform:
    """The platform, up, whatever the test before did to it."""
    await prepared.heal()
    return prepared


@pytest.fixture
async def receiver(broken: Platform) -> AsyncIterator[Receiver]:
    answer = await broken.client.request("GET", "/webhooks/default/secret")
    async with running_receiver(answer.body["key"]) as receiver:
        yield receiver
