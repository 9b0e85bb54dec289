"""Versions of a Model: list, publish, get, change, delete."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from api import showing
from api.access import needs
from api.dependencies import Caller, Reading, StateDep
from api.gate import Route
from api.pagination import MODELS_PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.models import MAX_NAME, NAME_PATTERN
from api.schemas.versions import VersionChanges, VersionRequest, VersionResponse
from core import catalog, versions
from core.errors import Forbidden
from core.people import ownership
from core.people.tokens import Scope

router = APIRouter(prefix="/models/{model_owner}/{model_name}/versions", tags=["models"], route_class=Route)

NewModelName = Annotated[str, Path(pattern=NAME_PATTERN, max_length=MAX_NAME)]


@router.get("", operation_id="models.versions.list", response_model=Page[VersionResponse])
@needs(Scope.READ)
async def list_versions(
    model_owner: str, model_name: str, request: Request, state: StateDep, caller: Caller, tx: Reading, cursor: Cursor
) -> Json:
    """List the Versions of a Model, newest first."""
    model = await catalog.get_model(tx, caller.id, model_owner, model_name)
    rows = await versions.list_page(tx, model.id, cursor, MODELS_PAGE_SIZE + 1)
    results = [showing.version(row) for row in rows[:MODELS_PAGE_SIZE]]
    return Json(page(state.settings, request, rows, MODELS_PAGE_SIZE, results))


@router.post("", status_code=201, operation_id="models.versions.create", response_model=VersionResponse)
@needs(Scope.WRITE, creates=True)
async def create(
    model_owner: str, model_name: NewModelName, body: VersionRequest, state: StateDep, caller: Caller
) -> Json:
    """Publish an image as the latest Version of one's Model. One that is not there yet is made, private."""
    if model_owner != caller.username:
        raise Forbidden(f"Only {model_owner} may publish versions of {model_owner}/{model_name}.")
    async with state.database.transaction() as tx:
        model = await ownership.model_to_publish(tx, caller, model_name, body.hardware)
        version_id = await catalog.publish(
            tx,
            model.id,
            "image",
            body.image,
            config={},
            cog_version="",
            slots=1,
            timeout_seconds=state.settings.prediction_timeout_seconds,
            setup_timeout_seconds=state.settings.setup_timeout_seconds,
        )
        row = await versions.get(tx, model.id, version_id)
    state.forget_runnables()
    return Json(showing.version(row), 201)


@router.get("/{version_id}", operation_id="models.versions.get", response_model=VersionResponse)
@needs(Scope.READ)
async def get(model_owner: str, model_name: str, version_id: str, caller: Caller, tx: Reading) -> Json:
    """Get a Version with the OpenAPI document of its container."""
    model = await catalog.get_model(tx, caller.id, model_owner, model_name)
    return Json(showing.version(await versions.get(tx, model.id, version_id)))


@router.patch("/{version_id}", operation_id="models.versions.update", response_model=VersionResponse)
@needs(Scope.WRITE)
async def change(
    model_owner: str, model_name: str, version_id: str, body: VersionChanges, state: StateDep, caller: Caller
) -> Json:
    """Say whether results of a Version may be used again for equal inputs."""
    async with state.database.transaction() as tx:
        model = await ownership.get_own_model(tx, caller.id, model_owner, model_name)
        row = await versions.set_caching(tx, model, version_id, body.caches_results)
    state.forget_runnables()
    return Json(showing.version(row))


@router.delete("/{version_id}", status_code=202, operation_id="models.versions.delete", response_class=Response)
@needs(Scope.WRITE)
async def remove(model_owner: str, model_name: str, version_id: str, state: StateDep, caller: Caller) -> Response:
    """Delete a Version that nobody else has use for; its predictions and their files are removed soon after."""
    async with state.database.transaction() as tx:
        model = await ownership.get_own_model(tx, caller.id, model_owner, model_name)
        await versions.delete(tx, model, version_id)
    state.forget_runnables()
    return Response(status_code=202)
