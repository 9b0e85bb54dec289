"""Fixtures for tests marked `docker`: an engine, a registry, and model images in it. A pytest plugin."""

from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.support.docker_images import cog_image, push, untag
from tests.support.registries import registry
from worker.runtimes.base import Container

PROJECTS = Path(__file__).parents[1] / "cog_projects"

ModelImage = Callable[[str, str], str]
Shell = Callable[[Container, str], str]


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture(scope="session")
def image_registry(docker_client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as host:
        yield host
        untag(docker_client, host)


@pytest.fixture(scope="session")
def model_image(docker_client: docker.DockerClient, image_registry: str) -> ModelImage:
    """Builds and pushes `tests/cog_projects/<project>` with a version of Cog; gives the reference by digest."""

    def build(project: str, sdk_version: str) -> str:
        image = cog_image(docker_client, PROJECTS / project, sdk_version)
        return push(docker_client, image, f"{image_registry}/tests/{project}", sdk_version)

    return build


@pytest.fixture(scope="session")
def shell(docker_client: docker.DockerClient) -> Shell:
    """What a shell in the container says."""

    def say(container: Container, command: str) -> str:
        answer = docker_client.containers.get(container.id).exec_run(["sh", "-c", command])
        return answer.output.decode().strip()

    return say
