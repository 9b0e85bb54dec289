"""`millrace up`: everything on one box until it is told to stop. Lock and signals; `cli/box.py` has the steps."""

import asyncio
import errno
import signal
from collections.abc import Coroutine

from rich.console import Console

from cli import checks
from cli.box import Box
from cli.errors import Refusal
from cli.leftovers import ProcessRecord
from cli.steps import step
from cli.supervisor import Supervisor
from core.settings import Settings


async def up(settings: Settings, console: Console) -> None:
    """Runs until SIGINT, SIGTERM or SIGHUP, and stops what it started. Raises `Refusal`."""
    data = settings.data.expanduser().absolute()
    settings = settings.model_copy(update={"data": data})
    checks.linux()
    checks.writable(data)
    with checks.only_one(data):
        record = ProcessRecord(data / "run" / "processes.json")
        supervisor = Supervisor(record, data / "logs", lambda text: console.print(text, markup=False, highlight=False))
        stop = _stop_on_signals(supervisor)
        box = Box(settings, console, supervisor)
        try:
            await _unless(stop, box.start(record))
            restart = _on_restart_signal()
            while not stop.is_set():
                await _unless(stop, _restart_when_told(restart, box, console))
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise Refusal(checks.no_space(data)) from None
            raise
        finally:
            if supervisor.is_idle:
                await box.close()
            else:
                with step(console, "Stop") as stopping:
                    grace = f"{settings.drain_seconds:g} s"
                    stopping.say(f"running predictions get {grace} to finish; Ctrl-C again to hurry")
                    await box.close()


def _stop_on_signals(supervisor: Supervisor) -> asyncio.Event:
    """The first signal asks to stop, the second to hurry."""
    stop = asyncio.Event()

    def receive() -> None:
        if stop.is_set():
            supervisor.hurry()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, receive)
    return stop


def _on_restart_signal() -> asyncio.Event:
    restart = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(checks.RESTART_SIGNAL, restart.set)
    return restart


async def _restart_when_told(restart: asyncio.Event, box: Box, console: Console) -> None:
    await restart.wait()
    restart.clear()
    try:
        await box.restart()
    except Refusal as error:
        console.print(f"The restart stopped half-way: {error}", markup=False, highlight=False)


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Does the work, or gives it up when we are to stop."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    working.cancel()
    await asyncio.wait({working})
    if not working.cancelled():
        working.result()
