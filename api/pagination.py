"""Pages by keyset: `{"next", "previous", "results"}` with absolute URLs whose parameter is named `cursor`.

Python re-sends its token to `next` as it is, and JavaScript resolves it against its base URL: so both must be ours.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

import orjson
from fastapi import Depends, Query, Request
from sqlalchemy import Row

from core.errors import BadRequest
from core.settings import Settings

PAGE_SIZE = 100
MODELS_PAGE_SIZE = 25

Position = tuple[datetime, str]


async def _position(cursor: Annotated[str | None, Query(max_length=500)] = None) -> Position | None:
    """The (moment, id) of the last row of the page before; None: the first page."""
    if not cursor:
        return None
    try:
        moment, id = orjson.loads(base64.urlsafe_b64decode(cursor))
        return datetime.fromisoformat(moment), str(id)
    except (ValueError, TypeError, binascii.Error):
        raise BadRequest("The cursor is not one of ours: follow `next` as it is, or leave it out.") from None


Cursor = Annotated[Position | None, Depends(_position)]


def page(
    settings: Settings,
    request: Request,
    rows: Sequence[Row],
    size: int,
    results: list[Any],
    moment: str = "created_at",
) -> dict[str, Any]:
    """`rows` are up to `size` + 1, sorted by `moment` and `id`; `results` show the first `size` of them."""
    following = None
    if len(rows) > size:
        last = rows[size - 1]
        cursor = base64.urlsafe_b64encode(orjson.dumps([getattr(last, moment).isoformat(), last.id])).decode()
        query = [(key, value) for key, value in parse_qsl(request.url.query) if key != "cursor"]
        following = f"{settings.url}{request.url.path}?{urlencode([*query, ('cursor', cursor)])}"
    return {"next": following, "previous": None, "results": results}
