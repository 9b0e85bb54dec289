"""Models and their Versions."""

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Row

from api.access import needs
from api.dependencies import Caller, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import MODELS_PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.models import VersionRequest
from api.state import State
from core import catalog
from core.clock import rfc3339
from core.database import Transaction
from core.errors import Forbidden
from core.tokens import Scope

router = APIRouter(prefix="/models", tags=["models"], route_class=Route)

#: While a Version is being prepared nobody knows better; clients index these without looking.
_ANYTHING = {
    "openapi": "3.0.2",
    "info": {"title": "Cog", "version": "0.1.0"},
    "paths": {},
    "components": {"schemas": {"Input": {"title": "Input", "type": "object"}, "Output": {"title": "Output"}}},
}


@router.get("")
@needs(Scope.READ)
async def list_models(request: Request, state: StateDep, caller: Caller, tx: Reading, cursor: Cursor) -> Json:
    """Public Models and the caller's own, newest first."""
    rows = await catalog.list_models(tx, caller.id, cursor, MODELS_PAGE_SIZE + 1)
    shown = rows[:MODELS_PAGE_SIZE]
    ids = [row.latest_version_id for row in shown if row.latest_version_id]
    latest = await catalog.versions_by_id(tx, ids) if ids else {}
    runs = await _runs(tx, shown)
    results = [_model(state, row, latest.get(row.latest_version_id), runs) for row in shown]
    return Json(page(state.settings, request, rows, MODELS_PAGE_SIZE, results))


@router.get("/{owner}/{name}")
@needs(Scope.READ)
async def get(owner: str, name: str, state: StateDep, caller: Caller, tx: Reading) -> Json:
    row = await catalog.get_model(tx, caller.id, owner, name)
    latest = row.latest_version_id and await catalog.get_version(tx, row.latest_version_id)
    return Json(_model(state, row, latest, await _runs(tx, [row])))


@router.get("/{owner}/{name}/versions")
@needs(Scope.READ)
async def list_versions(
    owner: str, name: str, request: Request, state: StateDep, caller: Caller, tx: Reading, cursor: Cursor
) -> Json:
    model = await catalog.get_model(tx, caller.id, owner, name)
    rows = await catalog.list_versions(tx, model.id, cursor, MODELS_PAGE_SIZE + 1)
    results = [_version(row) for row in rows[:MODELS_PAGE_SIZE]]
    return Json(page(state.settings, request, rows, MODELS_PAGE_SIZE, results))


@router.get("/{owner}/{name}/versions/{version_id}")
@needs(Scope.READ)
async def get_version(owner: str, name: str, version_id: str, caller: Caller, tx: Reading) -> Json:
    return Json(_version(await _find_version(tx, caller, owner, name, version_id)))


@router.post("/{owner}/{name}/versions", status_code=201)
@needs(Scope.WRITE, creates=True)
async def create_version(owner: str, name: str, body: VersionRequest, state: StateDep, caller: Caller, tx: Tx) -> Json:
    """Publishes an image as the Model's latest Version; a Model of one's own that is not there yet is made, private."""
    if owner != caller.username:
        raise Forbidden(f"Only {owner} may publish versions of {owner}/{name}.")
    sku = await catalog.hardware_for(tx, caller.id, name, body.hardware)
    model = await catalog.ensure_model(tx, caller.id, name, sku)
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
    return Json(_version(await catalog.get_version(tx, version_id)), 201)


async def _find_version(tx: Transaction, caller: Row, owner: str, name: str, version_id: str) -> Row:
    model = await catalog.get_model(tx, caller.id, owner, name)
    return await catalog.get_version_of(tx, model.id, version_id)


async def _runs(tx: Transaction, rows: list[Row]) -> dict[str, int]:
    return await catalog.run_counts(tx, [f"{row.owner}/{row.name}" for row in rows])


def _model(state: State, row: Row, latest: Row | None, runs: dict[str, int]) -> dict[str, Any]:
    return {
        "url": f"{state.settings.url}/{row.owner}/{row.name}",
        "owner": row.owner,
        "name": row.name,
        "description": row.description,
        "visibility": row.visibility,
        "github_url": row.github_url,
        "paper_url": row.paper_url,
        "license_url": row.license_url,
        "cover_image_url": row.cover_image_url,
        "run_count": runs.get(f"{row.owner}/{row.name}", 0),
        "default_example": None,
        "is_official": False,
        "created_at": rfc3339(row.created_at),
        "latest_version": latest and _version(latest),
    }


def _version(row: Row) -> dict[str, Any]:
    """`status` and `status_reason` are ours: whether it can run yet, and if not, why."""
    return {
        "id": row.id,
        "created_at": rfc3339(row.created_at),
        "cog_version": row.cog_version,
        "openapi_schema": row.openapi_schema or _ANYTHING,
        "status": row.status,
        "status_reason": row.status_reason,
    }
