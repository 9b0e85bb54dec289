"""Days and moments as people write them in commands."""

from datetime import UTC, datetime

from cli.errors import Refusal


def moment(text: str) -> datetime | None:
    """A day or a moment, in UTC unless it says otherwise; None for nothing. Raises `Refusal`."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(f"{text!r} is no moment: write it like 2026-01-31 or 2026-01-31T12:00:00Z.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
