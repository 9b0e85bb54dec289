"""Tables as CSV, sent while they are read."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from fastapi.responses import StreamingResponse

from core.usage import exports

#: Of a route's declaration: what it answers, for the OpenAPI document.
DOCUMENTED: dict[str, Any] = {
    "response_class": StreamingResponse,
    "responses": {200: {"description": "A table.", "content": {"text/csv": {"schema": {"type": "string"}}}}},
}


def download(
    name: str,
    columns: Sequence[str],
    batches: AsyncIterator[Sequence[Any]],
    row: Callable[[Any], Mapping[str, Any]] = lambda row: row,
) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        yield exports.header(columns)
        async for batch in batches:
            yield exports.lines(columns, map(row, batch))

    headers = {
        "Content-Disposition": f'attachment; filename="{name}.csv"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(lines(), headers=headers, media_type="text/csv")
