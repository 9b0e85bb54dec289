"""Files that clients upload, and the files that models return."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Row
from starlette.datastructures import UploadFile

from api.access import anyone, needs
from api.dependencies import Caller, NewId, Reading, StateDep, Tx
from api.gate import Route
from api.multipart import read_upload
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.files import File, Upload
from api.state import State
from core import files
from core.clock import rfc3339
from core.errors import NotFound
from core.files import NewFile
from core.people import accounts
from core.people.tokens import Scope

router = APIRouter(tags=["files"], route_class=Route)

_CHUNK_BYTES = 1024 * 1024
#: A model chose the content and its type: no browser may run it as ours, and any page may read it.
_UNTRUSTED = {
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": "public,max-age=3600",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
}
_FORM = {
    "required": True,
    "content": {"multipart/form-data": {"schema": Upload.model_json_schema()}},
}
_ANY_FILE: dict[int | str, dict[str, Any]] = {
    200: {"description": "Its bytes.", "content": {"*/*": {"schema": {}}}},
}


@router.post(
    "/files", status_code=201, operation_id="files.create", response_model=File, openapi_extra={"requestBody": _FORM}
)
@needs(Scope.RUN, creates=True)
async def create(request: Request, state: StateDep, caller: Caller, new_id: NewId) -> Json:
    """Keeps a file for the caller's own predictions; it expires by itself."""
    upload = await read_upload(request)
    new = NewFile(
        account_id=caller.id,
        kind=files.UPLOAD,
        name=upload.name,
        content_type=upload.content_type,
        metadata=upload.metadata,
        lifetime_seconds=state.settings.upload_lifetime_seconds,
        id=new_id,
    )
    values = await files.store(state.resources.files, new, _chunks(upload.content), state.settings.upload_bytes)
    async with state.database.transaction() as tx:
        row = await files.record(tx, values)
    return Json(_file(state, row), 201)


@router.get("/files", operation_id="files.list", response_model=Page[File])
@needs(Scope.READ)
async def list_files(request: Request, state: StateDep, caller: Caller, tx: Reading, cursor: Cursor) -> Json:
    """The caller's uploads, newest first."""
    rows = await files.list_uploads(tx, caller.id, cursor, PAGE_SIZE + 1)
    return Json(page(state.settings, request, rows, PAGE_SIZE, [_file(state, row) for row in rows[:PAGE_SIZE]]))


@router.get("/files/{file_id}", operation_id="files.get", response_model=File)
@needs(Scope.READ)
async def get(file_id: str, state: StateDep, caller: Caller, tx: Reading) -> Json:
    """What is known of an upload."""
    return Json(_file(state, await files.get_upload(tx, caller.id, file_id)))


@router.delete("/files/{file_id}", status_code=204, operation_id="files.delete")
@needs(Scope.RUN)
async def delete(file_id: str, state: StateDep, caller: Caller, tx: Tx) -> Response:
    """Removes an upload at once."""
    removed = await files.remove_upload(tx, caller.id, file_id)
    tx.after_commit(lambda _redis: files.discard(state.resources.files, [removed]))
    return Response(status_code=204)


@router.get(
    "/files/{file_id}/download", operation_id="files.download", response_class=StreamingResponse, responses=_ANY_FILE
)
@anyone
async def download(
    file_id: str, owner: str, expiry: int, signature: str, state: StateDep, tx: Reading
) -> StreamingResponse:
    """The bytes, to whoever has a signed URL; no token."""
    if not files.is_signed(state.settings, owner, file_id, expiry, signature):
        raise NotFound("The requested file could not be found.")
    account = await accounts.by_username(tx, owner)
    return await _bytes(state, await files.get_upload(tx, account.id, file_id))


@router.get(
    "/outputs/{file_id}/{name:path}", operation_id="outputs.get", response_class=StreamingResponse, responses=_ANY_FILE
)
@anyone
async def get_output(file_id: str, name: str, state: StateDep, tx: Reading) -> StreamingResponse:
    """A model's output file. Its URL is the permission: clients send no token, or one they should not."""
    return await _bytes(state, await files.get_output(tx, file_id))


async def _bytes(state: State, row: Row) -> StreamingResponse:
    headers = {
        **_UNTRUSTED,
        "Content-Length": str(row.size),
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(row.name)}",
        "ETag": f'"{row.md5}"',
    }
    chunks = await state.resources.files.stream(row.store_key)
    return StreamingResponse(chunks, headers=headers, media_type=row.content_type)


async def _chunks(content: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await content.read(_CHUNK_BYTES):
        yield chunk


def _file(state: State, row: Row) -> dict[str, Any]:
    """`name` and `etag` are in no specification, and Python 1.x fails without them."""
    return {
        "id": row.id,
        "name": row.name,
        "content_type": row.content_type,
        "size": row.size,
        "etag": row.md5,
        "checksums": {"sha256": row.sha256, "md5": row.md5},
        "metadata": row.metadata,
        "created_at": rfc3339(row.created_at),
        "expires_at": rfc3339(row.expires_at),
        "urls": {"get": files.upload_url(state.settings, row.id)},
    }
