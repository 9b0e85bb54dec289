"""Predictions: create by version or by model, get, list, cancel."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from sqlalchemy import Row

from api.body import JsonRoute
from api.dependencies import Caller, Reading, StateDep
from api.pagination import PAGE_SIZE, Cursor, page
from api.prefer import deadline_seconds, hold_seconds
from api.responses import Json
from api.schemas.predictions import PredictionRequest, RunRequest
from api.state import State
from core import files, predictions, wire
from core.lifecycle import PredictionStatus
from core.predictions import Request as NewPrediction

router = APIRouter(tags=["predictions"], route_class=JsonRoute)

#: A model that cooperates stops within milliseconds: then the answer to cancel says so itself.
_CANCEL_HOLD_SECONDS = 0.5

Prefer = Annotated[str | None, Header()]
CancelAfter = Annotated[str | None, Header()]


@router.post("/predictions", status_code=201)
async def create(
    body: PredictionRequest, state: StateDep, caller: Caller, prefer: Prefer = None, cancel_after: CancelAfter = None
) -> Json:
    """Runs a Version. With `Prefer: wait` the answer is held until the output is complete."""
    return await _create(state, caller, body.version, body, prefer, cancel_after)


@router.post("/models/{owner}/{name}/predictions", status_code=201)
async def create_by_model(
    owner: str,
    name: str,
    body: RunRequest,
    state: StateDep,
    caller: Caller,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> Json:
    """Runs the latest Version of a Model."""
    return await _create(state, caller, f"{owner}/{name}", body, prefer, cancel_after)


@router.get("/predictions")
async def list_predictions(
    request: Request,
    state: StateDep,
    caller: Caller,
    tx: Reading,
    cursor: Cursor,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    source: Annotated[Literal["web"] | None, Query()] = None,
) -> Json:
    """The caller's predictions, newest first, without their logs."""
    rows = await predictions.list_page(tx, caller.id, PAGE_SIZE + 1, cursor, created_after, created_before, source)
    results = [_listed(state, row) for row in rows[:PAGE_SIZE]]
    return Json(page(state.settings, request, rows, PAGE_SIZE, results))


@router.get("/predictions/{prediction_id}")
async def get(prediction_id: str, state: StateDep, caller: Caller) -> Json:
    async with state.database.direct() as tx:
        row = await predictions.get(tx, caller.id, prediction_id)
    return Json(await _shown(state, row))


@router.post("/predictions/{prediction_id}/cancel")
async def cancel(prediction_id: str, state: StateDep, caller: Caller) -> Json:
    """Stops it; one that has ended already is returned as it is."""
    with state.waiter.expect(prediction_id) as finished:
        async with state.database.transaction() as tx:
            row = await predictions.cancel(tx, caller.id, prediction_id)
        if row.completed_at is None:
            await state.waiter.wait(finished, _CANCEL_HOLD_SECONDS, lambda: _has_ended(state, prediction_id))
    return await get(prediction_id, state, caller)


async def _create(
    state: State, caller: Row, reference: str, body: RunRequest, prefer: str | None, cancel_after: str | None
) -> Json:
    deadline, hold = deadline_seconds(cancel_after), hold_seconds(prefer)
    runnable = await state.resolve(caller.id, reference)
    schema = state.schema_of(runnable)
    new = NewPrediction(
        account_id=caller.id,
        runnable=runnable,
        input=schema.prepare(body.input),
        secret_inputs=schema.secrets() or None,
        webhook_url=body.webhook_url,
        webhook_events=body.webhook_events,
        deadline_seconds=deadline,
    )
    if hold is None:
        async with state.database.direct() as tx:
            row = await predictions.create(tx, new)
        return Json(wire.prediction(state.settings, row, None), 201)
    return await _create_and_wait(state, new, hold)


async def _create_and_wait(state: State, new: NewPrediction, hold: float) -> Json:
    with state.waiter.expect(new.id) as finished:
        async with state.database.direct() as tx:
            row = await predictions.create(tx, new)
        ended = await state.waiter.wait(finished, hold, lambda: _has_ended(state, new.id))
    headers = {"Preference-Applied": "wait"}
    if not ended:
        # Every client takes any other status for the final answer, so the row as it was created is what they get.
        return Json(wire.prediction(state.settings, row, None), 202, headers)
    async with state.database.direct() as tx:
        row = await predictions.find(tx, new.id)
    return Json(await _shown(state, row), 201, headers)


def _listed(state: State, row: Row) -> dict[str, Any]:
    document = wire.prediction(state.settings, row, files.with_urls(state.settings, row.output))
    del document["logs"]
    return document


async def _has_ended(state: State, prediction_id: str) -> bool:
    async with state.database.direct() as tx:
        row = await predictions.find(tx, prediction_id)
    return row is None or PredictionStatus(row.status).is_terminal


async def _shown(state: State, row: Row) -> dict[str, Any]:
    """One prediction with its files as this server gives them: URLs, or data URIs where clients need those."""
    return wire.prediction(state.settings, row, await state.shown(row.output))
