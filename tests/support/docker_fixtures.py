"""Fixtures for tests marked `docker`: an engine, a registry, and model images in it. A pytest plugin."""

from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from docker.models.images import Image

from tests.support.docker_images import cog_image, push
from tests.support.registries import registry

PROJECTS = Path(__file__).parents[1] / "cog_projects"

ModelImage = Callable[[str, str], str]


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture(scope="session")
def image_registry(docker_client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as host:
        yield host
        for image in docker_client.images.list():
            _untag(docker_client, image, f"{host}/")


@pytest.fixture(scope="session")
def model_image(docker_client: docker.DockerClient, image_registry: str) -> ModelImage:
    """Builds and pushes `tests/cog_projects/<project>` with a version of Cog; gives the reference by digest."""

    def build(project: str, sdk_version: str) -> str:
        image = cog_image(docker_client, PROJECTS / project, sdk_version)
        return push(docker_client, image, f"{image_registry}/tests/{project}", sdk_version)

    return build


def _untag(client: docker.DockerClient, image: Image, prefix: str) -> None:
    """With its last tag in a repository an image loses its digests there too."""
    tags = [name for name in image.tags if name.startswith(prefix)]
    digests = [name for name in image.attrs["RepoDigests"] if name.startswith(prefix)]
    for name in tags or digests:
        client.images.remove(name)
