"""`python -m worker webhooks`: sends what is owed to customers' URLs."""

import asyncio

from core import health
from core.resources import Resources
from core.settings import Settings
from worker.commands.running import run
from worker.deliveries import Sender


def main(settings: Settings) -> int:
    run(_webhooks, settings)
    return 0


async def _webhooks(resources: Resources, stop: asyncio.Event) -> None:
    """Ends when either ends, so that neither goes on without the other."""
    tasks = [
        asyncio.create_task(health.keep_beating(resources.settings, "webhooks")),
        asyncio.create_task(Sender(resources).run(stop)),
    ]
    done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    done.pop().result()
