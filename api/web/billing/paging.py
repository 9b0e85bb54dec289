"""Tables page by page, by the last row seen: the position is in the URL, and the next page is a link."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import orjson
from fastapi import Depends, Query
from sqlalchemy import Row

Position = tuple[datetime, str]


async def _position(cursor: Annotated[str, Query(max_length=500)] = "") -> Position | None:
    """None: the first page; also where somebody has changed it by hand."""
    try:
        moment, id = orjson.loads(base64.urlsafe_b64decode(cursor))
        return datetime.fromisoformat(moment), str(id)
    except (ValueError, TypeError, binascii.Error):
        return None


After = Annotated[Position | None, Depends(_position)]


def following(rows: Sequence[Row], size: int, moment: str) -> str | None:
    """What the next page begins after, where `rows` are more than one page has."""
    if len(rows) <= size:
        return None
    last = rows[size - 1]
    return base64.urlsafe_b64encode(orjson.dumps([getattr(last, moment).isoformat(), last.id])).decode()
