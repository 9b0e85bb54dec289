"""On an engine that others use, too, only containers with our labels are ever removed."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import docker
import pytest
from docker.errors import NotFound

from core.resources import Resources
from core.settings import Settings
from tests.support.docker_images import plain_image, push
from worker import orphans
from worker.orphans import Orphans
from worker.place import Place
from worker.runtimes.base import Artifact, ContainerSpec
from worker.runtimes.docker import DockerRuntime

pytestmark = pytest.mark.docker

NETWORK = f"millrace-orphans-{os.getpid()}"
WAITS = {"cog/server/http.py": "import signal\nwhile True:\n    signal.pause()\n"}


@pytest.fixture(autouse=True, scope="module")
def _no_network_is_left(docker_client: docker.DockerClient) -> Iterator[None]:
    yield
    with suppress(NotFound):
        docker_client.networks.get(NETWORK).remove()


@pytest.fixture
async def runtimes() -> AsyncIterator[list[DockerRuntime]]:
    """Ours, that of another node of ours, and that of a neighbour's installation with a node of the same name."""
    name = f"test-{uuid.uuid4().hex}"
    runtimes = [
        DockerRuntime(Settings(installation=installation, node_name=node, docker_network=NETWORK))
        for installation, node in ((name, "node-1"), (name, "node-2"), (f"{name}-neighbour", "node-1"))
    ]
    yield runtimes
    for runtime in runtimes:
        for container in await runtime.list():
            await runtime.stop(container, 0)
        await runtime.close()


async def test_containers_of_neighbours_and_of_anybody_else_are_never_touched(
    resources: Resources,
    runtimes: list[DockerRuntime],
    docker_client: docker.DockerClient,
    image_registry: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = plain_image(docker_client, WAITS)
    artifact = Artifact("image", push(docker_client, image, f"{image_registry}/tests/orphans"), {}, {})
    ours, *theirs = [
        await runtime.start(ContainerSpec(uuid.uuid4().hex, "v" * 64, artifact, 1, None)) for runtime in runtimes
    ]
    # Its name looks like one of ours, and it has no label.
    name = f"millrace-{uuid.uuid4().hex}"
    stranger = docker_client.containers.run(image, ["sleep", "600"], name=name, detach=True)
    try:
        found = Orphans(resources.database, [Place(runtimes[0], None)], lambda instance_id: False)
        monkeypatch.setattr(orphans, "GRACE_SECONDS", 0.0)
        await found.look()
        await found.free(["GPU-1"])
        with pytest.raises(NotFound):
            docker_client.containers.get(ours.id)
        for each in (*(container.id for container in theirs), stranger.id):
            assert docker_client.containers.get(each).status == "running"
    finally:
        stranger.remove(force=True)
