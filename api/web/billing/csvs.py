"""Tables of pages as CSV files, with a heading for each column."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi.responses import StreamingResponse

from api import csv

#: A heading, and what stands below it.
Columns = dict[str, Callable[[Any], Any]]


def download(name: str, columns: Columns, batches: AsyncIterator[Sequence[Any]]) -> StreamingResponse:
    """`name` is that of the file, without its end."""
    return csv.download(name, [*columns], batches, lambda row: {name: value(row) for name, value in columns.items()})


async def at_once(rows: Sequence[Any]) -> AsyncIterator[Sequence[Any]]:
    """What was read already."""
    yield rows
