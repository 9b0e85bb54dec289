"""A process from its start to SIGTERM: resources opened, signals turned into an event, all closed again."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from core import collector
from core.resources import Resources, open_resources
from core.settings import Settings
from worker.joining.membership import NotAMember, membership

#: As <sysexits.h> has it. By this `deploy/millrace-node.service` knows that starting again is of no use.
NOT_PERMITTED = 77

Main = Callable[[Resources, asyncio.Event], Awaitable[None]]


def run(main: Main, settings: Settings) -> None:
    """`main` returns soon after its event is set."""
    collector.relax()
    try:
        uvloop.run(_run(main, settings))
    except NotAMember as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(NOT_PERMITTED if error.is_final else 1)


async def _run(main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with membership(settings) as settings:
        # Until then there is nothing to be left in order.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with open_resources(settings) as resources:
            await main(resources, stop)
