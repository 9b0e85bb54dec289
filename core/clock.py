"""Time, in one place, so that nothing else calls `datetime.now`.

Row timestamps and leases use the database's clock (`func.now()`); durations use `monotonic`.
"""

import time
from datetime import UTC, datetime

import orjson

monotonic = time.monotonic


def now() -> datetime:
    """The wall clock, always with a time zone."""
    return datetime.now(UTC)


def rfc3339(moment: datetime | None) -> str | None:
    """`2026-01-02T03:04:05.678901Z`: six digits and a Z, because the Swift client parses nothing else."""
    if moment is None:
        return None
    # A page shows 300 moments, and this takes a fifth of what strftime does; but it leaves out zeros.
    text = orjson.dumps(moment.astimezone(UTC), option=orjson.OPT_UTC_Z).decode()[1:-1]
    return text if moment.microsecond else f"{text[:-1]}.000000Z"
