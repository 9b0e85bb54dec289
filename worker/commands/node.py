"""`python -m worker node`: runs containers on this machine.

SIGTERM ends it; SIGHUP puts a new program in its place, and what runs goes on. One that has joined begins anew by
itself when it was cut off for too long: there may be nobody on its machine who would start it again.
"""

import asyncio
import signal
from functools import partial
from typing import Any

from core.log import get_logger
from core.resources import Resources
from core.settings import Settings
from worker import handover
from worker.commands.running import run
from worker.joining.membership import is_member
from worker.node import LeaseLost, Node
from worker.runtimes.base import Runtime
from worker.runtimes.docker import DockerRuntime
from worker.runtimes.process import ProcessRuntime

log = get_logger()


def main(settings: Settings) -> int:
    kept = handover.inherited()
    try:
        run(partial(_node, kept), settings)
    except LeaseLost as error:
        log.error("node ends", reason=str(error))
        if is_member(settings):
            handover.begin_anew()
        return 1
    return 0


async def _node(kept: dict[str, Any] | None, resources: Resources, stop: asyncio.Event) -> None:
    restart = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, restart.set)
    handover.listen()
    await Node(resources, await runtimes(resources), kept).run(stop, restart)


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
