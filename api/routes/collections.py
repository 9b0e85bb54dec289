"""Collections: everybody reads them, an admin of the server makes them."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from sqlalchemy import Row

from api import showing
from api.access import needs
from api.dependencies import Caller, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import MODELS_PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.collections import CollectionItem, CollectionRequest, CollectionResponse
from api.schemas.common import Page
from api.state import State
from core import collections
from core.collections import NewCollection
from core.errors import Forbidden
from core.people.tokens import Scope

router = APIRouter(prefix="/collections", tags=["collections"], route_class=Route)

NewSlug = Annotated[str, Path(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]


@router.get("", operation_id="collections.list", response_model=Page[CollectionItem])
@needs(Scope.READ)
async def list_collections(request: Request, state: StateDep, tx: Reading, cursor: Cursor) -> Json:
    """List collections, newest first."""
    rows = await collections.list_page(tx, cursor, MODELS_PAGE_SIZE + 1)
    results = [_item(row) for row in rows[:MODELS_PAGE_SIZE]]
    return Json(page(state.settings, request, rows, MODELS_PAGE_SIZE, results))


@router.get("/{collection_slug}", operation_id="collections.get", response_model=CollectionResponse)
@needs(Scope.READ)
async def get(collection_slug: str, state: StateDep, caller: Caller) -> Json:
    """Get a collection with the Models in it."""
    return Json(await _whole(state, caller, collection_slug))


@router.put("/{collection_slug}", operation_id="collections.put", response_model=CollectionResponse)
@needs(Scope.ADMIN)
async def put(collection_slug: NewSlug, body: CollectionRequest, state: StateDep, caller: Caller) -> Json:
    """Make a collection, or make it what is sent here. For admins of the server."""
    _require_admin(caller)
    async with state.database.transaction() as tx:
        await collections.put(tx, caller.id, NewCollection(slug=collection_slug, **body.model_dump()))
    return Json(await _whole(state, caller, collection_slug))


@router.delete("/{collection_slug}", status_code=204, operation_id="collections.delete")
@needs(Scope.ADMIN)
async def remove(collection_slug: str, caller: Caller, tx: Tx) -> Response:
    """Delete a collection; its Models stay. For admins of the server."""
    _require_admin(caller)
    await collections.remove(tx, collection_slug)
    return Response(status_code=204)


def _require_admin(caller: Row) -> None:
    if not caller.is_admin:
        raise Forbidden(f"{caller.username} is no admin of this server: only an admin may change collections.")


async def _whole(state: State, caller: Row, slug: str) -> dict[str, object]:
    async with state.database.autocommit() as tx:
        row = await collections.get(tx, slug)
        models = await collections.models_of(tx, caller.id, slug)
    return _item(row) | {"full_description": row.full_description, "models": await showing.models(state, models)}


def _item(row: Row) -> dict[str, object]:
    return {"name": row.name, "slug": row.slug, "description": row.description}
