"""The same in containers of Docker, with one that was made ahead and without, in turns; see `bench.cold_start`.

`python -m bench.cold_start_docker` needs what the tests marked `docker` need: an engine, and images that it builds.
"""

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import docker
from rich.console import Console

from bench.cold_start import BOOT_SECONDS, LOOK_SECONDS, MODEL, health, shown
from core import fleet
from tests.support.docker_images import cog_image, push, untag
from tests.support.platform import Platform
from tests.support.registries import registry

_COG = "0.23.1"
_ROUNDS = 8
_SPARE_SECONDS = 60.0
_LOOK_SECONDS = 0.1


async def measure(platform: Platform, engine: docker.DockerClient, image: str) -> list[dict[str, dict[str, float]]]:
    """The rounds: the metrics of a first call with a spare container, and of one without, and a start by hand."""
    model = await platform.publish_image(image, "cold")
    await platform.wait_ready(model)
    rounds = []
    for _ in range(_ROUNDS):
        await _spare(platform, engine)
        ahead = await _first_call(platform, model)
        (await _spare(platform, engine)).remove()
        alone = await _first_call(platform, model)
        hand = {"by hand": await asyncio.to_thread(_by_hand, platform.settings.docker_network, image)}
        rounds.append({"made ahead": ahead, "made for the call": alone, "docker run": hand})
    return rounds


async def _first_call(platform: Platform, model: str) -> dict[str, float]:
    """Afterwards nothing of it runs any more."""
    began = time.monotonic()
    prediction = await platform.client.create(model, {}, prefer="wait=60")
    took = time.monotonic() - began
    assert prediction["status"] == "succeeded", prediction
    database = platform.resources.database
    async with database.transaction() as tx:
        for row in await fleet.live_instances(tx):
            await fleet.unwant(tx, row.id, "The next call is to be a cold one.")
    while platform.docker_containers():  # noqa: ASYNC110 - an engine announces nothing
        await asyncio.sleep(_LOOK_SECONDS)
    return {**prediction["metrics"], "caller": took}


async def _spare(platform: Platform, engine: docker.DockerClient) -> Any:
    label = f"millrace.installation={platform.settings.installation}"
    filters = {"label": label, "name": "^/millrace-spare-"}
    async with asyncio.timeout(_SPARE_SECONDS):
        while not (found := engine.containers.list(all=True, filters=filters, ignore_removed=True)):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
    # Until its schema is in it, too.
    await asyncio.sleep(1)
    return found[0]


def _by_hand(network: str, image: str) -> float:
    """Seconds from `docker run` to ready, with nothing of what Millrace asks for but its network."""
    began = time.monotonic()
    command = ["docker", "run", "--detach", "--network", network, image]
    id = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        inspect = ["docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id]
        address = subprocess.run(inspect, check=True, capture_output=True, text=True).stdout.strip()
        while b"READY" not in asyncio.run(health(address, 5000)):
            assert time.monotonic() < began + BOOT_SECONDS
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - began
    finally:
        subprocess.run(["docker", "rm", "--force", id], check=True, capture_output=True)


async def main() -> None:
    engine = docker.from_env(timeout=600)
    with tempfile.TemporaryDirectory(prefix="millrace-cold-") as folder, registry(Path(folder)) as host:
        image = push(engine, cog_image(engine, MODEL, _COG), f"{host}/bench/cold")
        async with Platform(Path(folder) / "data", runtime="docker") as platform:
            rounds = await measure(platform, engine, image)
        untag(engine, host)
    for kind in rounds[0]:
        Console(width=100).print(shown([each[kind] for each in rounds], f"{_ROUNDS} cold starts of a no-op: {kind}"))


if __name__ == "__main__":
    asyncio.run(main())
