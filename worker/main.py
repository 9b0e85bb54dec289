"""`python -m worker node | webhooks | jobs`: the processes that do the work; and `gpus`, which lists this machine's."""

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable

import orjson
import uvloop
from redis import Redis
from rq import SimpleWorker

from core import health
from core.jobs import QUEUE
from core.log import configure, get_logger
from core.resources import Resources, open_resources
from core.settings import Settings, get_settings
from worker.deliveries import Sender
from worker.gpus import list_gpus
from worker.node import LeaseLost, Node
from worker.runtimes.base import Runtime
from worker.runtimes.docker import DockerRuntime
from worker.runtimes.process import ProcessRuntime

log = get_logger()

Main = Callable[[Resources, asyncio.Event], Awaitable[None]]


async def node(resources: Resources, stop: asyncio.Event) -> None:
    await Node(resources, await runtimes(resources)).run(stop)


async def webhooks(resources: Resources, stop: asyncio.Event) -> None:
    beating = asyncio.create_task(health.keep_beating(resources.settings, "webhooks"))
    try:
        await Sender(resources).run(stop)
    finally:
        beating.cancel()


def jobs(settings: Settings) -> None:
    """RQ's own loop. Each job runs an event loop of its own, so no fork is needed and none is paid for."""
    threading.Thread(target=_beat_for_ever, args=(settings,), daemon=True).start()
    SimpleWorker([QUEUE], connection=Redis.from_url(settings.redis_url)).work(with_scheduler=False)


def _beat_for_ever(settings: Settings) -> None:
    while True:
        health.beat(settings, "jobs")
        time.sleep(health.BEAT_SECONDS)


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


async def _run(main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_resources(settings) as resources:
        await main(resources, stop)


def main() -> int:
    settings = get_settings()
    process = sys.argv[1] if len(sys.argv) == 2 else ""
    configure(settings, process)
    match process:
        case "node":
            try:
                uvloop.run(_run(node, settings))
            except LeaseLost as error:
                log.error("node ends", reason=str(error))
                return 1
        case "webhooks":
            uvloop.run(_run(webhooks, settings))
        case "jobs":
            jobs(settings)
        case "gpus":
            sys.stdout.write(orjson.dumps([gpu.as_dict() for gpu in list_gpus()]).decode() + "\n")
        case _:
            sys.stderr.write("usage: python -m worker node | webhooks | jobs | gpus\n")
            return 2
    return 0
