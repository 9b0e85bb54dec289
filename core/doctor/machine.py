"""This machine: whether processes give signs of life, disks have room, the clock is right and Redis answers."""

import shutil
import time
from pathlib import Path

from redis.exceptions import RedisError
from sqlalchemy import text

from core import health
from core.doctor.checks import Check, Finding, NotChecked
from core.resources import Resources

#: Less, and the next image, bundle or table does not fit.
_FREE_BYTES = 1024**3
_CLOCK_SECONDS = 60


async def _alive(resources: Resources) -> list[Finding]:
    folder = resources.settings.data / "health"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not names:
        raise NotChecked("No process has run with this data folder.")
    sentence = "{} was last seen {:.0f} s ago: look at its log, or remove {} if it is not to run here."
    return [
        Finding(name, sentence.format(name, health.age_seconds(resources.settings, name) or 0, folder / name))
        for name in names
        if not health.is_alive(resources.settings, name)
    ]


async def _room(resources: Resources) -> list[Finding]:
    store = resources.settings.file_store_url
    folders = {resources.settings.data.absolute()}
    if store.startswith("file://"):
        folders.add(Path(store.removeprefix("file://")))
    free = {folder: shutil.disk_usage(folder).free for folder in folders if folder.is_dir()}
    sentence = "The disk that holds {} is full ({} MiB are free): free at least 1 GiB."
    return [
        Finding(str(folder), sentence.format(folder, bytes // 1024**2))
        for folder, bytes in free.items()
        if bytes < _FREE_BYTES
    ]


async def _clock(resources: Resources) -> list[Finding]:
    async with resources.database.autocommit() as tx:
        theirs = await tx.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
    off = time.time() - float(theirs)
    if abs(off) <= _CLOCK_SECONDS:
        return []
    sentence = "The clock of this machine is {:+.0f} s off the database's: have both set by NTP, or receivers refuse "
    return [Finding("clock", sentence.format(off) + "webhooks as too old.")]


async def _redis(resources: Resources) -> list[Finding]:
    try:
        await resources.redis.ping()
    except (RedisError, OSError) as error:
        return [Finding("redis", f"Redis does not answer ({error}): predictions wait until it does; nothing is lost.")]
    return []


CHECKS = (
    Check("processes", "Every process that was started on this machine gives signs of life.", _alive),
    Check("disks", "There is room for images, bundles and files.", _room),
    Check("clock", "The clock of this machine is right to the minute.", _clock),
    Check("redis", "Redis answers.", _redis),
)
