"""Moments in requests: RFC 3339 with a time zone, and nothing else that pydantic would take for one."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise PydanticCustomError("format", "Must be a moment with a time zone, like 2026-01-02T03:04:05Z") from None


Moment = Annotated[datetime, BeforeValidator(_moment)]
