"""The URL in `urls.stream`. Unguessable instead of authenticated: browsers and most clients send no token to it."""

from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from api.access import anyone
from api.dependencies import StateDep
from api.gate import Route
from api.schemas.streams import StreamEvent
from api.streaming import events
from core import predictions, wire
from core.errors import NotFound

router = APIRouter(tags=["streams"], route_class=Route)

_DOCUMENTED: dict[str, Any] = {
    "response_class": StreamingResponse,
    "responses": {
        200: {
            "description": "Events, until `done`.",
            "content": {"text/event-stream": {"schema": StreamEvent.model_json_schema()}},
        }
    },
}
_HEADERS = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get("/streams/{capability}", operation_id="streams.get", **_DOCUMENTED)
@router.get("/files/streams/{capability}", operation_id="files.streams.get", **_DOCUMENTED)
@anyone
async def listen(
    capability: str, state: StateDep, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """Output as it comes, as server-sent events: `output`, then `error` if it failed, then `done`."""
    prediction_id = wire.prediction_of_stream(state.settings, capability)
    async with state.database.direct() as tx:
        row = prediction_id and await predictions.find(tx, prediction_id)
    if row is None:
        raise NotFound("There is no such stream.")
    return StreamingResponse(events(state, row, last_event_id), headers=_HEADERS, media_type="text/event-stream")
