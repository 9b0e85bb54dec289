"""The tokens of the calling account. What is shown of them never lets anybody in, but for the answer to `create`."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import Row

from api.access import needs
from api.dependencies import Caller, NewId, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.tokens import NewTokenResponse, TokenRequest, TokenResponse, TokenUpdate
from core.clock import rfc3339
from core.people import tokens
from core.people.tokens import Scope

router = APIRouter(prefix="/tokens", tags=["tokens"], route_class=Route)


@router.post("", operation_id="tokens.create", status_code=201, response_model=NewTokenResponse)
@needs(Scope.ADMIN, creates=True, keeps_answer=False)
async def create(body: TokenRequest, caller: Caller, new_id: NewId, tx: Tx) -> Json:
    """Create a token, with no scope that the calling one lacks, and show it this once."""
    scopes = tokens.grant(caller.scopes, body.scopes)
    row, token = await tokens.create(tx, new_id, caller.id, body.name, scopes, body.expiry)
    return Json({**_shown(row), "token": token}, 201)


@router.get("", operation_id="tokens.list", response_model=Page[TokenResponse])
@needs(Scope.ADMIN)
async def list_tokens(request: Request, state: StateDep, caller: Caller, tx: Reading, cursor: Cursor) -> Json:
    """List the tokens of the account, newest first, with those that are expired or revoked."""
    rows = await tokens.list_page(tx, caller.id, PAGE_SIZE + 1, cursor)
    return Json(page(state.settings, request, rows, PAGE_SIZE, [_shown(row) for row in rows[:PAGE_SIZE]]))


@router.get("/{token_id}", operation_id="tokens.get", response_model=TokenResponse)
@needs(Scope.ADMIN)
async def get(token_id: str, caller: Caller, tx: Reading) -> Json:
    """Get what is known of a token."""
    return Json(_shown(await tokens.get(tx, caller.id, token_id)))


@router.patch("/{token_id}", operation_id="tokens.update", response_model=TokenResponse)
@needs(Scope.ADMIN)
async def update(token_id: str, body: TokenUpdate, caller: Caller, tx: Tx) -> Json:
    """Rename a token."""
    return Json(_shown(await tokens.rename(tx, caller.id, token_id, body.name)))


@router.delete("/{token_id}", operation_id="tokens.delete", status_code=204)
@needs(Scope.ADMIN)
async def revoke(token_id: str, state: StateDep, caller: Caller) -> Response:
    """Revoke a token, be it the calling one: here at once, in other processes of the server within 2 seconds."""
    async with state.database.transaction() as tx:
        await tokens.revoke(tx, caller.id, token_id)
    state.forget(caller.id)
    return Response(status_code=204)


def _shown(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": row.scopes,
        "created_at": rfc3339(row.created_at),
        "last_used_at": rfc3339(row.last_used_at),
        "expires_at": rfc3339(row.expires_at),
        "revoked_at": rfc3339(row.revoked_at),
    }
