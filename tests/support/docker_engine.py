"""A Docker engine that a test may restart: in a network of its own, on a data folder and a socket of its own.

In the machine's own network it would rewrite the firewall rules of the engine that is there.
"""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException

from core.settings import process_environment
from tests.support.docker_images import push
from tests.support.network import Network
from tests.support.process import Process

START_SECONDS = 60.0
#: Two busy disks.
ENGINE_SECONDS = 300
_LOOK_SECONDS = 0.2


class Engine:
    def __init__(self, folder: Path, network: Network) -> None:
        self.host = f"unix://{folder}/docker.sock"
        options = {
            "host": self.host,
            "data-root": folder / "data",
            "exec-root": folder / "exec",
            "pidfile": folder / "docker.pid",
            # The registry of the test's side speaks plain HTTP.
            "insecure-registry": f"{network.outside}/32",
        }
        words = (f"--{name}={value}" for name, value in options.items())
        command = (*network.prefix, "dockerd", *words)
        self.process = Process("dockerd", command, process_environment(), folder / "dockerd.log")

    async def start(self) -> None:
        self.process.start()
        deadline = time.monotonic() + START_SECONDS
        while not await asyncio.to_thread(self._answers):
            alive = self.process.is_running and time.monotonic() < deadline
            assert alive, f"No engine answers. Its log ends with:\n{self.process.tail()}"
            await asyncio.sleep(_LOOK_SECONDS)

    async def restart(self) -> None:
        """In order, as `systemctl restart docker` does: without live-restore its containers end with it."""
        await self.process.stop()
        await self.start()

    def take_over(self, image: str, repository: str) -> str:
        """An image of the machine's own engine, pushed as `repository`; returns it pinned by digest."""
        saving = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE)
        subprocess.run(["docker", "--host", self.host, "load"], stdin=saving.stdout, check=True, capture_output=True)
        assert saving.wait() == 0, f"{image} could not be saved"
        client = docker.DockerClient(base_url=self.host, timeout=ENGINE_SECONDS)
        try:
            return push(client, image, repository)
        finally:
            client.close()

    def forget(self, image: str) -> None:
        """With all its names, as if it had never seen it."""
        with closing(docker.DockerClient(base_url=self.host, timeout=ENGINE_SECONDS)) as client:
            client.images.remove(image, force=True)

    def containers(self) -> list[Any]:
        with closing(docker.DockerClient(base_url=self.host, timeout=ENGINE_SECONDS)) as client:
            return client.containers.list(all=True)

    def _answers(self) -> bool:
        try:
            client = docker.DockerClient(base_url=self.host, timeout=5)
            client.ping()
            client.close()
        except DockerException:
            return False
        return True


@asynccontextmanager
async def running_engine(folder: Path, network: Network) -> AsyncIterator[Engine]:
    folder.mkdir(parents=True, exist_ok=True)
    engine = Engine(folder, network)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.process.stop()
