"""Examples of a Model: list, add, remove."""

from fastapi import APIRouter, Request, Response

from api import showing
from api.access import needs
from api.dependencies import Caller, StateDep, Tx
from api.gate import Route
from api.pagination import MODELS_PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.models import ExampleRequest
from api.schemas.predictions import Prediction
from core import catalog, examples
from core.people import ownership
from core.people.tokens import Scope

router = APIRouter(prefix="/models/{model_owner}/{model_name}/examples", tags=["models"], route_class=Route)


@router.get("", operation_id="models.examples.list", response_model=Page[Prediction])
@needs(Scope.READ)
async def list_examples(
    model_owner: str, model_name: str, request: Request, state: StateDep, caller: Caller, cursor: Cursor
) -> Json:
    """List the examples of a Model, the first one added first."""
    async with state.database.autocommit() as tx:
        model = await catalog.get_model(tx, caller.id, model_owner, model_name)
        rows = await examples.list_page(tx, model.id, cursor, MODELS_PAGE_SIZE + 1)
    results = [await showing.example(state, row) for row in rows[:MODELS_PAGE_SIZE]]
    return Json(page(state.settings, request, rows, MODELS_PAGE_SIZE, results, "added_at"))


@router.post("", status_code=201, operation_id="models.examples.create", response_model=Prediction)
@needs(Scope.WRITE, creates=True, keeps_answer=False)
async def add(model_owner: str, model_name: str, body: ExampleRequest, state: StateDep, caller: Caller) -> Json:
    """Show a prediction to all who see the Model. Its data are kept as long as it is an example."""
    async with state.database.transaction() as tx:
        model = await ownership.get_own_model(tx, caller.id, model_owner, model_name)
        row = await examples.add(tx, model, caller.id, body.prediction)
    return Json(await showing.example(state, row), 201)


@router.delete("/{prediction_id}", status_code=204, operation_id="models.examples.delete")
@needs(Scope.WRITE)
async def remove(model_owner: str, model_name: str, prediction_id: str, caller: Caller, tx: Tx) -> Response:
    """Show it no more; the prediction itself stays, as long as others do."""
    model = await ownership.get_own_model(tx, caller.id, model_owner, model_name)
    await examples.remove(tx, model, prediction_id)
    return Response(status_code=204)
