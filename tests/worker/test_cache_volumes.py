"""Caches of containers: an owner's models share them, whoever else is on the engine does not. On a real engine."""

import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from docker.errors import NotFound

from core.settings import Settings
from tests.support.docker_fixtures import Shell
from tests.support.docker_images import plain_image, push
from worker.runtimes.base import Artifact, Container, ContainerSpec
from worker.runtimes.docker import DockerRuntime

pytestmark = pytest.mark.docker

NETWORK = f"millrace-caches-{os.getpid()}"
WAITS = {"cog/server/http.py": "import signal\nwhile True:\n    signal.pause()\n"}
#: As a `run` of a cog.yaml does it.
BRINGS_WEIGHTS = "RUN mkdir -p /root/.cache/torch/hub && echo weights > /root/.cache/torch/hub/face.pth"
PLACES_THEM = "ENV HF_HOME=/src/weights"
IS_NOBODY = "USER nobody"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    installation = f"test-{uuid.uuid4().hex}"
    return Settings(data=tmp_path, installation=installation, node_name="node-1", docker_network=NETWORK)


@pytest.fixture
async def runtime(settings: Settings, docker_client: docker.DockerClient) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(settings)
    yield runtime
    for container in await runtime.list():
        await runtime.stop(container, 0)
    await runtime.close()
    for volume in docker_client.volumes.list(filters={"label": f"millrace.installation={settings.installation}"}):
        volume.remove()


@pytest.fixture(autouse=True, scope="module")
def _no_network_is_left(docker_client: docker.DockerClient) -> Iterator[None]:
    yield
    with suppress(NotFound):
        docker_client.networks.get(NETWORK).remove()


@pytest.fixture
def start(runtime: DockerRuntime, docker_client: docker.DockerClient, image_registry: str) -> Callable:
    """A container of a model of `owner`, whose image has these lines in its Dockerfile."""

    async def start(owner: str, lines: str = "") -> Container:
        image = plain_image(docker_client, WAITS, lines)
        artifact = Artifact("image", push(docker_client, image, f"{image_registry}/tests/caches"), {}, {})
        await runtime.ensure(artifact)
        return await runtime.start(ContainerSpec(uuid.uuid4().hex, "v" * 64, artifact, 1, None, owner=owner))

    return start


async def test_what_one_model_fetched_its_owners_next_one_finds_and_nobody_elses(
    start: Callable, shell: Shell, runtime: DockerRuntime
) -> None:
    first = await start("ada")
    assert shell(first, "mkdir -p $HF_HUB_CACHE && echo weights > $HF_HUB_CACHE/model") == ""
    await runtime.stop(first, 0)
    assert shell(await start("ada"), "cat $HF_HUB_CACHE/model") == "weights"
    assert "No such file" in shell(await start("bob"), "cat $HF_HUB_CACHE/model")


async def test_what_was_compiled_is_kept_by_kind_of_gpu(start: Callable, shell: Shell) -> None:
    container = await start("ada")
    assert shell(container, "dirname $TRITON_CACHE_DIR") == "/var/cache/millrace/cpu"
    assert shell(container, "mkdir $TRITON_CACHE_DIR $TORCHINDUCTOR_CACHE_DIR $CUDA_CACHE_PATH") == ""


async def test_weights_that_came_with_the_image_are_not_hidden(start: Callable, shell: Shell) -> None:
    container = await start("ada", BRINGS_WEIGHTS)
    assert shell(container, "echo $TORCH_HOME; cat ~/.cache/torch/hub/face.pth") == "weights"
    assert shell(container, "echo $HF_HUB_CACHE") == "/var/cache/millrace/huggingface"


async def test_where_the_image_places_its_caches_they_stay(start: Callable, shell: Shell) -> None:
    assert shell(await start("ada", PLACES_THEM), "echo $HF_HOME $HF_HUB_CACHE") == "/src/weights"


async def test_who_could_not_write_there_gets_none(start: Callable, shell: Shell) -> None:
    assert shell(await start("ada", IS_NOBODY), "env | grep CACHE; ls /var/cache | grep millrace") == ""


async def test_those_that_are_not_used_any_more_go_and_those_that_are_stay(
    start: Callable, settings: Settings, runtime: DockerRuntime, docker_client: docker.DockerClient, tmp_path: Path
) -> None:
    for owner in ("gone", "idle"):
        container = await start(owner)
        if owner == "gone":
            await runtime.stop(container, 0)
        os.utime(tmp_path / "volumes" / owner, (0, 0))
    await start("ada")
    volumes = docker_client.volumes.list(filters={"label": f"millrace.installation={settings.installation}"})
    assert {volume.attrs["Labels"]["millrace.owner"] for volume in volumes} == {"ada", "idle"}
    assert {path.name for path in (tmp_path / "volumes").iterdir()} == {"ada", "idle"}
