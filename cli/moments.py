"""Days, moments and how long something lasts, as people write and read them in commands."""

import re
from datetime import UTC, datetime, timedelta

from cli.errors import Refusal

_DURATION = re.compile(r"([1-9]\d{0,4})([hd])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1)}


def moment(text: str) -> datetime | None:
    """A day or a moment, in UTC unless it says otherwise; None for nothing. Raises `Refusal`."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(f"{text!r} is no moment: write it like 2026-01-31 or 2026-01-31T12:00:00Z.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def duration(text: str) -> timedelta:
    """Raises `Refusal`."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise Refusal(f"A token cannot be valid for {text!r}: give hours or days, like 12h or 90d.")
    return int(found[1]) * _UNITS[found[2]]


def shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
