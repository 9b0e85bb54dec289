"""Looks after one container that is up: has it ended, does it still work. Knows nothing of predictions."""

import asyncio
from collections.abc import Callable

from core.errors import MillraceError
from core.log import get_logger
from worker.booting import Boot

log = get_logger()

#: How often a container is looked at, whether or not it is said to have ended.
_WATCH_SECONDS = 1.0


async def until_lost(instance_id: str, boot: Boot, is_idle: Callable[[], bool]) -> str:
    """Returns why the container, which died or no longer works, is not worth keeping.

    While it is at work only its exit is looked for: older Cogs answer nothing else then.
    """
    told = asyncio.create_task(boot.ended())
    try:
        while True:
            # Once it has told, what it told of may not show yet.
            await (asyncio.sleep(_WATCH_SECONDS) if told.done() else asyncio.wait([told], timeout=_WATCH_SECONDS))
            try:
                reason = await boot.exit_reason()
            except MillraceError as error:
                log.warning("container not looked at, will try again", instance=instance_id, error=str(error))
                continue
            if reason is None and is_idle():
                health = await boot.cog.health()
                reason = health.error or "It reports itself broken." if health.recycle else None
            if reason is not None:
                return reason
    finally:
        told.cancel()
