"""Request headers that steer a prediction: `Prefer: wait[=n]`, `Cancel-After: <duration>`, `X-Millrace-Priority`."""

import re

from core.errors import BadRequest, InvalidField, InvalidInput
from core.queue import Priority

#: Python 2.x gives up, and posts again, after 60 s: the answer must be out before.
LONGEST_HOLD_SECONDS = 58.0

_WAIT = re.compile(r"(?:^|[,;\s])wait(?:=(\d{1,6}))?(?=$|[,;\s])")
_DURATION = re.compile(r"^(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s?)?$")
_SHORTEST_DEADLINE, _LONGEST_DEADLINE = 5, 24 * 3600


def preference_applied(prefer: str | None) -> dict[str, str]:
    """The header that tells which preference was honoured; empty: none."""
    found = _WAIT.search(prefer or "")
    return {"Preference-Applied": f"wait={found[1]}" if found[1] else "wait"} if found else {}


def hold_seconds(prefer: str | None) -> float | None:
    """How long to hold the answer; None: not at all. More than a minute is clamped: JavaScript sends any number."""
    found = _WAIT.search(prefer or "")
    if found is None:
        return None
    return min(float(found[1] or LONGEST_HOLD_SECONDS), LONGEST_HOLD_SECONDS)


def deadline_seconds(cancel_after: str | None) -> float | None:
    """Seconds from creation, from Go-like durations: `90`, `90s`, `1h30m45s`. Raises `InvalidInput`."""
    if not cancel_after:
        return None
    found = _DURATION.match(cancel_after.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not _SHORTEST_DEADLINE <= total <= _LONGEST_DEADLINE:
        problem = "Must be a duration between 5s and 24h, like 90s or 1h30m"
        raise InvalidInput([InvalidField("format", "Cancel-After", problem)])
    return float(total)


def priority_of(priority: str | None) -> Priority:
    """Raises `BadRequest`."""
    name = (priority or Priority.NORMAL).strip().lower()
    if name not in set(Priority):
        raise BadRequest(f"X-Millrace-Priority is low or normal, not {name[:80]!r}.")
    return Priority(name)
