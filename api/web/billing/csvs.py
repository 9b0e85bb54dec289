"""Tables as CSV files, sent as they are read: a million rows hold neither memory nor a connection."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi.responses import StreamingResponse

from core import exports

#: A heading, and what stands below it.
Columns = dict[str, Callable[[Any], Any]]


def download(name: str, columns: Columns, batches: AsyncIterator[Sequence[Any]]) -> StreamingResponse:
    """`name` is that of the file, without its end."""
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.csv"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(_lines(columns, batches), media_type="text/csv; charset=utf-8", headers=headers)


async def at_once(rows: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
    """What was read already."""
    yield rows


async def _lines(columns: Columns, batches: AsyncIterator[Sequence[Any]]) -> AsyncIterator[str]:
    names = [*columns]
    yield exports.header(names)
    async for rows in batches:
        yield exports.lines(names, [{name: value(row) for name, value in columns.items()} for row in rows])
