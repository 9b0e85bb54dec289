"""`python -m worker node`: runs containers on this machine."""

import asyncio

from core.log import get_logger
from core.resources import Resources
from core.settings import Settings
from worker.commands.running import run
from worker.node import LeaseLost, Node
from worker.runtimes.base import Runtime
from worker.runtimes.docker import DockerRuntime
from worker.runtimes.process import ProcessRuntime

log = get_logger()


def main(settings: Settings) -> int:
    try:
        run(_node, settings)
    except LeaseLost as error:
        log.error("node ends", reason=str(error))
        return 1
    return 0


async def _node(resources: Resources, stop: asyncio.Event) -> None:
    await Node(resources, await runtimes(resources)).run(stop)


async def runtimes(resources: Resources) -> list[Runtime]:
    """The runtimes this node has: `process` for bundles, `docker` for images; `auto` takes docker where it answers."""
    chosen: list[Runtime] = []
    wanted = resources.settings.runtime
    if wanted in ("auto", "docker"):
        docker = DockerRuntime(resources.settings)
        if wanted == "docker" or await docker.answers():
            chosen.append(docker)
    if wanted in ("auto", "process"):
        chosen.append(ProcessRuntime(resources.settings, resources.files.fetch_bundle))
    return chosen
