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
    beating = asyncio.create_task(health.keep_beating(resources.settings, "webhooks"))
    try:
        await Sender(resources).run(stop)
    finally:
        beating.cancel()
