"""Images that take the place of the official ones in docker-compose.yml, for CI, which can pull none."""

from pathlib import Path

import docker

from tests.support.base_image import base_image


def stand_in(client: docker.DockerClient, name: str) -> str:
    """The tag of `postgres`, `redis` or `registry`, built from Debian's packages; quick when nothing changed."""
    tag = f"millrace-test/{name}:stand-in"
    client.images.build(
        path=str(Path(__file__).parent / name),
        tag=tag,
        buildargs={"BASE_IMAGE": base_image(client)},
        network_mode="host",
        rm=True,
        forcerm=True,
    )
    return tag
