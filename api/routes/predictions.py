"""Predictions: create by version or by model, get, list, cancel."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request

from api.access import Bucket, needs
from api.creating import CreatingDep, has_ended, shown
from api.creating import create as create_prediction
from api.dependencies import Caller, StateDep
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.predictions import IsoMoment, Prediction, PredictionRequest, RunRequest
from core import catalog, files, history, predictions, wire
from core.errors import InvalidVersion
from core.lifecycle import PredictionStatus
from core.people.tokens import Scope

router = APIRouter(tags=["predictions"], route_class=Route)

#: A model that cooperates stops within milliseconds: then the answer to cancel says so itself.
_CANCEL_HOLD_SECONDS = 0.5


@router.post("/predictions", status_code=201, operation_id="predictions.create", response_model=Prediction)
@needs(Scope.RUN, bucket=Bucket.CREATES, creates=True)
async def create(body: PredictionRequest, creating: CreatingDep) -> Json:
    """Runs a Version. With `Prefer: wait` the answer is held until the output is complete."""
    runnable = await creating.state.resolve(creating.caller.id, body.version)
    return await create_prediction(creating, runnable, body)


@router.post(
    "/models/{model_owner}/{model_name}/predictions",
    status_code=201,
    operation_id="models.predictions.create",
    response_model=Prediction,
)
@needs(Scope.RUN, bucket=Bucket.CREATES, creates=True)
async def create_by_model(model_owner: str, model_name: str, body: RunRequest, creating: CreatingDep) -> Json:
    """Runs the latest Version of a Model."""
    try:
        runnable = await creating.state.resolve(creating.caller.id, f"{model_owner}/{model_name}")
    except InvalidVersion:
        async with creating.state.database.autocommit() as tx:
            await catalog.get_model(tx, creating.caller.id, model_owner, model_name)
        raise InvalidVersion(f"{model_owner}/{model_name} has no version yet: publish one first.") from None
    return await create_prediction(creating, runnable, body)


@router.get("/predictions", operation_id="predictions.list", response_model=Page[Prediction])
@needs(Scope.READ)
async def list_predictions(
    request: Request,
    state: StateDep,
    caller: Caller,
    cursor: Cursor,
    created_after: Annotated[IsoMoment | None, Query(description="Those created then or later.")] = None,
    created_before: Annotated[IsoMoment | None, Query(description="Those created before.")] = None,
    source: Annotated[Literal["web"] | None, Query(description="`web`: those made on a page.")] = None,
) -> Json:
    """The caller's predictions, newest first, without their logs; a page of long ones has fewer."""
    async with state.database.direct() as tx:
        rows = await history.list_page(tx, caller.id, PAGE_SIZE + 1, cursor, created_after, created_before, source)
    settings = state.settings
    size = sum(row.fits for row in rows[:PAGE_SIZE])
    results = [wire.listed(settings, row, files.with_urls(settings, row.output)) for row in rows[:size]]
    return Json(page(settings, request, rows, size, results))


@router.get("/predictions/{prediction_id}", operation_id="predictions.get", response_model=Prediction)
@needs(Scope.READ)
async def get(prediction_id: str, state: StateDep, caller: Caller) -> Json:
    """The state of one, with its output as far as it has come."""
    async with state.database.direct() as tx:
        row = await predictions.get(tx, caller.id, prediction_id)
    document = await shown(state, row)
    if row.status == PredictionStatus.STARTING:
        document["queue"] = await state.queueing.standing(row)
    return Json(document)


@router.post("/predictions/{prediction_id}/cancel", operation_id="predictions.cancel", response_model=Prediction)
@needs(Scope.RUN)
async def cancel(prediction_id: str, state: StateDep, caller: Caller) -> Json:
    """Stops it; one that has ended already is returned as it is."""
    with state.waiter.expect(prediction_id) as finished:
        async with state.database.transaction() as tx:
            row = await predictions.cancel(tx, caller.id, prediction_id)
        if row.completed_at is None:
            await state.waiter.wait(finished, _CANCEL_HOLD_SECONDS, lambda: has_ended(state, prediction_id))
    return await get(prediction_id, state, caller)
