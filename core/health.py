"""Signs of life: each process touches a file while its loop turns; `millrace health <process>` looks how old it is."""

import asyncio
import time
from pathlib import Path

from core.settings import Settings

BEAT_SECONDS = 2.0
#: Older than this, a process counts as hung.
STALE_SECONDS = 15.0
#: Held in Postgres by the scheduler that leads. Any number that nothing else in this database locks on.
LEADER_LOCK = 7_310_002


def _file(settings: Settings, process: str) -> Path:
    return settings.data / "health" / process


def beat(settings: Settings, process: str) -> None:
    file = _file(settings, process)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


async def keep_beating(settings: Settings, process: str) -> None:
    """Runs beside a process's loop, on the same event loop, so that a blocked loop falls silent."""
    while True:
        beat(settings, process)
        await asyncio.sleep(BEAT_SECONDS)


def forget(settings: Settings, process: str) -> None:
    """Before a process is started: signs of its last life must not pass for signs of this one."""
    _file(settings, process).unlink(missing_ok=True)


def age_seconds(settings: Settings, process: str) -> float | None:
    """Seconds since the last sign of life; None if there never was one."""
    file = _file(settings, process)
    return time.time() - file.stat().st_mtime if file.exists() else None


def is_alive(settings: Settings, process: str) -> bool:
    age = age_seconds(settings, process)
    return age is not None and age < STALE_SECONDS
