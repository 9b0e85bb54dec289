"""Deployments: list, create, get, update, delete, and their predictions."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import Row

from api.access import Bucket, needs
from api.creating import CreatingDep
from api.creating import create as create_prediction
from api.dependencies import Caller, NewId, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.deployments import DeploymentChanges, DeploymentRequest, DeploymentResponse
from api.schemas.predictions import Prediction, RunRequest
from core import deployments
from core.clock import rfc3339
from core.deployments import Configuration
from core.people.tokens import Scope

router = APIRouter(prefix="/deployments", tags=["deployments"], route_class=Route)

#: What a request calls a field, and what its row does.
_COLUMNS = {"version": "version_id", "hardware": "hardware_sku"}


@router.get("", operation_id="deployments.list", response_model=Page[DeploymentResponse])
@needs(Scope.READ)
async def list_deployments(request: Request, state: StateDep, caller: Caller, tx: Reading, cursor: Cursor) -> Json:
    """List the caller's Deployments, newest first."""
    rows = await deployments.list_page(tx, caller.id, cursor, PAGE_SIZE + 1)
    return Json(page(state.settings, request, rows, PAGE_SIZE, [_deployment(row) for row in rows[:PAGE_SIZE]]))


# 200 and not 201: that is what the original answers.
@router.post("", operation_id="deployments.create", response_model=DeploymentResponse)
@needs(Scope.WRITE, creates=True)
async def create(body: DeploymentRequest, caller: Caller, new_id: NewId, tx: Tx) -> Json:
    """Create a Deployment of a Version that the caller may run; its least number of instances starts at once."""
    configuration = Configuration(**_columns(body.model_dump(exclude={"name"})))
    return Json(_deployment(await deployments.create(tx, new_id, caller, body.name, configuration)))


@router.get("/{deployment_owner}/{deployment_name}", operation_id="deployments.get", response_model=DeploymentResponse)
@needs(Scope.READ)
async def get(deployment_owner: str, deployment_name: str, caller: Caller, tx: Reading) -> Json:
    """Get a Deployment of the caller's with its current Release."""
    return Json(_deployment(await deployments.get(tx, caller.id, deployment_owner, deployment_name)))


@router.patch(
    "/{deployment_owner}/{deployment_name}", operation_id="deployments.update", response_model=DeploymentResponse
)
@needs(Scope.WRITE)
async def change(
    deployment_owner: str, deployment_name: str, body: DeploymentChanges, state: StateDep, caller: Caller
) -> Json:
    """Make the next Release of a Deployment; what waits for the one before still runs on that."""
    changes = _columns(body.model_dump(exclude_unset=True))
    async with state.database.transaction() as tx:
        row = await deployments.change(tx, caller.id, deployment_owner, deployment_name, changes)
    state.forget_runnables()
    return Json(_deployment(row))


@router.delete("/{deployment_owner}/{deployment_name}", status_code=204, operation_id="deployments.delete")
@needs(Scope.WRITE)
async def remove(deployment_owner: str, deployment_name: str, state: StateDep, caller: Caller) -> Response:
    """Delete a Deployment that has been offline and unused for 15 minutes."""
    async with state.database.transaction() as tx:
        await deployments.remove(tx, caller.id, deployment_owner, deployment_name)
    state.forget_runnables()
    return Response(status_code=204)


@router.post(
    "/{deployment_owner}/{deployment_name}/predictions",
    status_code=201,
    operation_id="deployments.predictions.create",
    response_model=Prediction,
)
@needs(Scope.RUN, bucket=Bucket.CREATES, creates=True)
async def create_prediction_of(
    deployment_owner: str, deployment_name: str, body: RunRequest, creating: CreatingDep
) -> Json:
    """Run the current Release of a Deployment. With `Prefer: wait` the answer is held until the output is complete."""
    state, caller = creating.state, creating.caller
    runnable = await state.resolve_deployment(caller.id, deployment_owner, deployment_name)
    return await create_prediction(creating, runnable, body)


def _columns(fields: dict[str, Any]) -> dict[str, Any]:
    return {_COLUMNS.get(name, name): value for name, value in fields.items()}


def _deployment(row: Row) -> dict[str, Any]:
    bounds = {"min_instances": row.min_instances, "max_instances": row.max_instances}
    return {
        "owner": row.owner,
        "name": row.name,
        "current_release": {
            "number": row.number,
            "model": row.model,
            "version": row.version_id,
            "created_at": rfc3339(row.released_at),
            "created_by": {
                "type": row.creator_type,
                "username": row.creator_username,
                "name": row.creator_name,
                "avatar_url": row.creator_avatar_url,
                "github_url": row.creator_github_url,
            },
            # Swift decodes nothing without `scaling`.
            "configuration": {"hardware": row.hardware_sku, **bounds, "scaling": bounds},
        },
    }
