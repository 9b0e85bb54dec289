"""The audit log: an account reads what touched it, an admin of the server everything."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import Row

from api.access import needs
from api.dependencies import Caller, Reading, StateDep
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, Position, page
from api.responses import Json
from api.schemas.audit import AuditEventResponse, ExportFormat
from api.schemas.common import Page
from api.schemas.moments import Moment
from api.state import State
from api.whose import WhoseOrAll
from core.errors import BadRequest
from core.people import audit, audit_trail
from core.people.audit_trail import Filter
from core.people.tokens import Scope

router = APIRouter(prefix="/audit", tags=["audit"], route_class=Route)

_MEDIA_TYPES = {ExportFormat.JSONL: "application/x-ndjson", ExportFormat.CSV: "text/csv"}
_DOCUMENTED: dict[str, Any] = {
    "response_class": StreamingResponse,
    "responses": {
        200: {
            "description": "All of them, the oldest first.",
            "content": {
                "application/x-ndjson": {"schema": AuditEventResponse.model_json_schema()},
                "text/csv": {"schema": {"type": "string"}},
            },
        }
    },
}


async def _filter(
    account: WhoseOrAll,
    action: Annotated[str | None, Query(max_length=100, description="How the action begins: `token.`.")] = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Filter:
    return Filter(account and account.id, action, since, until)


Wanted = Annotated[Filter, Depends(_filter)]


@router.get("", operation_id="audit.list", response_model=Page[AuditEventResponse])
@needs(Scope.ADMIN)
async def list_events(
    request: Request, state: StateDep, caller: Caller, tx: Reading, filter: Wanted, cursor: Cursor
) -> Json:
    """List who did what to the account, newest first; for an admin of the server, to every account."""
    rows = await audit_trail.page(tx, filter, _number(cursor), PAGE_SIZE + 1)
    results = [audit_trail.shown(row, _reader(caller)) for row in rows[:PAGE_SIZE]]
    return Json(page(state.settings, request, rows, PAGE_SIZE, results, "at"))


@router.get("/export", operation_id="audit.export", **_DOCUMENTED)
@needs(Scope.ADMIN)
async def export(
    state: StateDep, caller: Caller, filter: Wanted, format: ExportFormat = ExportFormat.JSONL
) -> StreamingResponse:
    """Export the same, oldest first, as one JSON object a line or as CSV; the export is on record itself."""
    async with state.database.transaction() as tx:
        await audit.record(
            tx, "audit.export", "the audit log", account_id=filter.account_id or caller.id, after=_facts(filter, format)
        )
    headers = {"Content-Disposition": f'attachment; filename="audit.{format}"', "Cache-Control": "no-store"}
    lines = _lines(state, filter, format, _reader(caller))
    return StreamingResponse(lines, headers=headers, media_type=_MEDIA_TYPES[format])


async def _lines(state: State, filter: Filter, format: ExportFormat, reader_id: str | None) -> AsyncIterator[str]:
    write = audit_trail.csv_lines if format is ExportFormat.CSV else audit_trail.json_lines
    if format is ExportFormat.CSV:
        yield audit_trail.CSV_HEADER
    async for batch in audit_trail.stream(state.database, filter):
        yield write([audit_trail.shown(row, reader_id) for row in batch])


def _facts(filter: Filter, format: ExportFormat) -> dict[str, Any]:
    return {"format": format, "action": filter.action, "since": filter.since, "until": filter.until}


def _reader(caller: Row) -> str | None:
    return None if caller.is_admin else caller.id


def _number(cursor: Position | None) -> int | None:
    """Raises `BadRequest`."""
    if cursor is None:
        return None
    try:
        return int(cursor[1])
    except ValueError:
        raise BadRequest("The cursor is not one of ours: follow `next` as it is, or leave it out.") from None
