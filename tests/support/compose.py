"""docker-compose.yml, really run: with stand-ins for images that CI cannot pull, free ports and names of its own."""

import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

from tests.support.base_image import base_image
from tests.support.ports import free_port
from tests.support.stand_ins import stand_in

ROOT = Path(__file__).parents[2]
IMAGE = "millrace-test/millrace:compose"
# Installing Millrace's requirements into the image, and starting everything on two busy cores.
BUILD_SECONDS = 900
UP_SECONDS = 600
HEALTHY_SECONDS = 120
TOKEN = "r8_a-token-for-the-compose-test"

# Publishes one small model instead of all that come along; and puts a registry where both the jobs process and the
# engine find it under one name, 127.0.0.1.
OVERRIDE = """
services:
  setup:
    build: {{network: host}}
    environment: {{MILLRACE_MODELS: /models}}
    volumes: ["{root}/cog_models/hello-world:/models/hello-world:ro"]
  jobs:
    ports: ["127.0.0.1:{registry_port}:{registry_port}"]
  registry:
    image: {registry_image}
    profiles: [docker]
    environment: {{REGISTRY_HTTP_ADDR: ":{registry_port}"}}
    network_mode: service:jobs
    depends_on: [jobs]
"""


@dataclass(frozen=True, slots=True)
class Compose:
    """A running installation."""

    client: docker.DockerClient
    folder: Path
    name: str
    port: int
    registry_port: int
    gateway_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def registry(self) -> str:
        return f"127.0.0.1:{self.registry_port}"

    def run(self, *arguments: str, given: str = "", seconds: float = UP_SECONDS) -> str:
        """docker-compose with `arguments`; what it wrote to stdout. A failure shows everything it wrote."""
        files = ["-f", str(ROOT / "docker-compose.yml"), "-f", str(self.folder / "override.yml")]
        command = ["docker-compose", "-p", self.name, "--project-directory", str(ROOT), *files]
        done = subprocess.run(
            [*command, "--env-file", str(self.folder / "env"), *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            env={**os.environ, "MILLRACE_ENV_FILE": str(self.folder / "env")},
        )
        if done.returncode:
            logs = self.logs() if "up" in arguments else ""
            raise RuntimeError(f"docker-compose {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}\n{logs}")
        return done.stdout

    def up(self, *profile: str) -> None:
        """Returns when every container is healthy; one without a check, when it runs."""
        self.run(*profile, "up", "-d", "--no-build")
        deadline = time.monotonic() + HEALTHY_SECONDS
        while waiting := self._not_healthy():
            if time.monotonic() > deadline:
                raise RuntimeError(f"Not healthy after {HEALTHY_SECONDS} s: {waiting}\n{self.logs()}")
            time.sleep(1)

    def _not_healthy(self) -> dict[str, str]:
        ours = {"label": f"com.docker.compose.project={self.name}"}
        states = {one.name: one.attrs["State"] for one in self.client.containers.list(filters=ours)}
        found = {name: state.get("Health", {"Status": "healthy"})["Status"] for name, state in states.items()}
        return {name: status for name, status in found.items() if status != "healthy"}

    def logs(self) -> str:
        return self.run("ps", "-a") + self.run("logs", "--no-color", "--tail", "80")


@contextmanager
def compose(client: docker.DockerClient, folder: Path) -> Iterator[Compose]:
    """Up in the default profile; everything it made is gone afterwards."""
    installation = Compose(
        client, folder, f"millrace-test-{uuid.uuid4().hex[:8]}", free_port(), free_port(), free_port()
    )
    (folder / "env").write_text(
        "\n".join(f"{name}={value}" for name, value in _variables(client, installation).items())
    )
    registry_image = stand_in(client, "registry")
    (folder / "override.yml").write_text(
        OVERRIDE.format(root=ROOT, registry_port=installation.registry_port, registry_image=registry_image)
    )
    installation.run("build", "setup", seconds=BUILD_SECONDS)
    try:
        installation.up()
        yield installation
    finally:
        profiles = ("--profile", "docker", "--profile", "gateway")
        installation.run(*profiles, "down", "--volumes", "--remove-orphans", "--timeout", "30")


def _variables(client: docker.DockerClient, installation: Compose) -> dict[str, str | int]:
    return {
        "MILLRACE_SECRET": uuid.uuid4().hex,
        "MILLRACE_ADMIN_TOKEN": TOKEN,
        "POSTGRES_PASSWORD": uuid.uuid4().hex,
        "MILLRACE_PORT": installation.port,
        "MILLRACE_GATEWAY_PORT": installation.gateway_port,
        "MILLRACE_INSTALLATION": installation.name,
        "MILLRACE_DOCKER_NETWORK": f"{installation.name}-models",
        "MILLRACE_IMAGE": IMAGE,
        "MILLRACE_BASE_IMAGE": base_image(client),
        "MILLRACE_POSTGRES_IMAGE": stand_in(client, "postgres"),
        "MILLRACE_REDIS_IMAGE": stand_in(client, "redis"),
    }
