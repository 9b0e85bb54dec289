"""Looks after one container that is up: has it ended, does it still work. Knows nothing of predictions."""

import asyncio
from collections.abc import Awaitable, Callable

from core.errors import MillraceError
from core.log import get_logger
from worker.cog import CogContainer

log = get_logger()

#: How often a container is looked at; a lost one is usually noticed by its predictions first.
_WATCH_SECONDS = 1.0


async def until_lost(
    instance_id: str,
    cog: CogContainer,
    exit_reason: Callable[[], Awaitable[str | None]],
    is_idle: Callable[[], bool],
) -> str:
    """Returns why the container, which died or no longer works, is not worth keeping.

    While it is at work only its exit is looked for: older Cogs answer nothing else then.
    """
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        try:
            reason = await exit_reason()
        except MillraceError as error:
            log.warning("container not looked at, will try again", instance=instance_id, error=str(error))
            continue
        if reason is None and is_idle():
            health = await cog.health()
            reason = health.error or "It reports itself broken." if health.recycle else None
        if reason is not None:
            return reason
