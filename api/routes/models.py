"""Models: list, search, create, get, update, delete, and their READMEs."""

from typing import Annotated, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from api import showing
from api.access import needs
from api.dependencies import Caller, NewId, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import MODELS_PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.models import ModelChanges, ModelRequest, ModelResponse
from core import catalog, search
from core.catalog import ModelOrder
from core.errors import BadRequest, Forbidden
from core.people import ownership
from core.people.tokens import Scope

router = APIRouter(tags=["models"], route_class=Route)

#: They come at once: a client follows `next` with a GET, which could not say again what was looked for.
_MOST_FOUND = 50

_TEXT_BODY = {
    "requestBody": {
        "required": True,
        "description": "What to look for, as it is or as a JSON string.",
        "content": {"text/plain": {"schema": {"type": "string", "minLength": 1}, "example": "super resolution"}},
    }
}


@router.get("/models", operation_id="models.list", response_model=Page[ModelResponse])
@needs(Scope.READ)
async def list_models(
    request: Request,
    state: StateDep,
    caller: Caller,
    cursor: Cursor,
    sort_by: Annotated[
        ModelOrder, Query(description="A Model without a Version stands where it was created itself.")
    ] = ModelOrder.LATEST_VERSION,
    sort_direction: Literal["desc", "asc"] = "desc",
) -> Json:
    """List public Models and one's own, newest first."""
    async with state.database.autocommit() as tx:
        ascending = sort_direction == "asc"
        rows = await catalog.list_models(tx, caller.id, cursor, MODELS_PAGE_SIZE + 1, sort_by, ascending)
    results = await showing.models(state, rows[:MODELS_PAGE_SIZE])
    return Json(page(state.settings, request, rows, MODELS_PAGE_SIZE, results, "sorted_at"))


async def search_models(request: Request, state: StateDep, caller: Caller) -> Json:
    """Search public Models and one's own, the most relevant first. They come as one page."""
    query = search.Query.of(_text(await request.body()))
    if query is None:
        raise BadRequest("Send what to look for as the body of the request.")
    async with state.database.autocommit() as tx:
        rows = await search.models(tx, caller.id, query, _MOST_FOUND)
    return Json({"next": None, "previous": None, "results": await showing.models(state, rows)})


router.add_api_route(
    "/models",
    needs(Scope.READ)(search_models),
    methods=["QUERY"],
    operation_id="models.search",
    response_model=Page[ModelResponse],
    openapi_extra=_TEXT_BODY,
)


def _text(body: bytes) -> str:
    """JavaScript and Python 2.x send a JSON string, under whatever media type, and the others the bare text."""
    text = body.decode(errors="replace").strip()
    if text.startswith('"'):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text


@router.post("/models", status_code=201, operation_id="models.create", response_model=ModelResponse)
@needs(Scope.WRITE, creates=True)
async def create(body: ModelRequest, state: StateDep, caller: Caller, new_id: NewId) -> Json:
    """Create a Model of one's own."""
    if body.owner != caller.username:
        raise Forbidden(f"This token speaks for {caller.username}: only {body.owner} may create its models.")
    fields = body.model_dump(exclude={"owner", "name", "hardware"})
    async with state.database.transaction() as tx:
        row = await ownership.create_model(tx, caller, new_id, body.name, body.hardware, **fields)
    return Json(await showing.model(state, row), 201)


@router.get("/models/{model_owner}/{model_name}", operation_id="models.get", response_model=ModelResponse)
@needs(Scope.READ)
async def get(model_owner: str, model_name: str, state: StateDep, caller: Caller) -> Json:
    """Get a Model, with its latest Version and its default example."""
    async with state.database.autocommit() as tx:
        row = await catalog.get_model(tx, caller.id, model_owner, model_name)
    return Json(await showing.model(state, row))


@router.patch("/models/{model_owner}/{model_name}", operation_id="models.update", response_model=ModelResponse)
@needs(Scope.WRITE)
async def change(model_owner: str, model_name: str, body: ModelChanges, state: StateDep, caller: Caller) -> Json:
    """Change what is said of a Model, who sees it, or what it runs on from now on."""
    fields = body.model_dump(exclude_unset=True)
    if "hardware" in fields:
        fields["hardware_sku"] = fields.pop("hardware")
    async with state.database.transaction() as tx:
        row = await ownership.get_own_model(tx, caller.id, model_owner, model_name)
        await ownership.change_model(tx, row.id, fields)
        row = await catalog.get_model(tx, caller.id, model_owner, model_name)
    state.forget_runnables()
    return Json(await showing.model(state, row))


@router.delete("/models/{model_owner}/{model_name}", status_code=204, operation_id="models.delete")
@needs(Scope.WRITE)
async def remove(model_owner: str, model_name: str, caller: Caller, tx: Tx) -> Response:
    """Delete a private Model of one's own that has no Versions."""
    await ownership.delete_model(tx, caller.id, model_owner, model_name)
    return Response(status_code=204)


@router.get(
    "/models/{model_owner}/{model_name}/readme",
    operation_id="models.readme.get",
    response_class=PlainTextResponse,
)
@needs(Scope.READ)
async def get_readme(model_owner: str, model_name: str, caller: Caller, tx: Reading) -> PlainTextResponse:
    """Get the README of a Model, in Markdown."""
    return PlainTextResponse(await catalog.get_readme(tx, caller.id, model_owner, model_name))
