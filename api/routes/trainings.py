"""Trainings. No Version has a trainer here yet, so there are none: each route answers as it will for such Versions."""

from typing import NoReturn

from fastapi import APIRouter, Request
from sqlalchemy import Row

from api.access import Bucket, needs
from api.dependencies import Caller, Reading, StateDep
from api.gate import Route
from api.pagination import PAGE_SIZE, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.trainings import Training, TrainingRequest
from core import catalog, versions
from core.database import Transaction
from core.errors import Invalid, InvalidField, InvalidInput, NotFound
from core.people.tokens import Scope

router = APIRouter(tags=["trainings"], route_class=Route)


@router.post(
    "/models/{model_owner}/{model_name}/versions/{version_id}/trainings",
    status_code=201,
    operation_id="trainings.create",
    response_model=Training,
)
@needs(Scope.RUN, bucket=Bucket.CREATES, creates=True)
async def create(
    model_owner: str, model_name: str, version_id: str, body: TrainingRequest, caller: Caller, tx: Reading
) -> NoReturn:
    """Train a Version, which makes a new Version of the model at the destination."""
    model = await catalog.get_model(tx, caller.id, model_owner, model_name)
    version = await versions.get(tx, model.id, version_id)
    await _require_destination(tx, caller, body.destination)
    raise Invalid(f"Version {version.id} of {model_owner}/{model_name} has no trainer on this server.")


async def _require_destination(tx: Transaction, caller: Row, destination: str) -> None:
    owner, _, name = destination.partition("/")
    if not owner or not name or "/" in name:
        raise InvalidInput([InvalidField("pattern", "destination", "Must be `owner/name` of a model of yours")])
    if owner != caller.username:
        raise _no_destination(destination)
    try:
        await catalog.get_model(tx, caller.id, owner, name)
    except NotFound:
        raise _no_destination(destination) from None


def _no_destination(destination: str) -> NotFound:
    return NotFound(f"The destination {destination} is no model of yours: create it first.")


@router.get("/trainings", operation_id="trainings.list", response_model=Page[Training])
@needs(Scope.READ)
async def list_trainings(request: Request, state: StateDep) -> Json:
    """List the caller's trainings, newest first, without their logs."""
    return Json(page(state.settings, request, [], PAGE_SIZE, []))


@router.get("/trainings/{training_id}", operation_id="trainings.get", response_model=Training)
@needs(Scope.READ)
async def get(training_id: str) -> NoReturn:
    """Get the state of a training, with its output once it has succeeded."""
    raise _unknown()


@router.post("/trainings/{training_id}/cancel", operation_id="trainings.cancel", response_model=Training)
@needs(Scope.RUN)
async def cancel(training_id: str) -> NoReturn:
    """Stop a training; one that has ended already is returned as it is."""
    raise _unknown()


def _unknown() -> NotFound:
    return NotFound("The requested training could not be found.")
