"""What happened to a prediction, and why."""

from typing import Any

from fastapi import APIRouter

from api.access import needs
from api.dependencies import Caller, StateDep
from api.gate import Route
from api.responses import Json
from api.schemas.events import Timeline
from core import predictions, timeline
from core.clock import rfc3339
from core.people import accounts
from core.people.tokens import Scope
from core.timeline import Entry

router = APIRouter(tags=["predictions"], route_class=Route)


@router.get(
    "/predictions/{prediction_id}/events",
    operation_id="predictions.events",
    summary="List what happened to a prediction",
    response_model=Timeline,
)
@needs(Scope.READ)
async def list_events(prediction_id: str, state: StateDep, caller: Caller) -> Json:
    """Every change of its state, and of the containers that it waited for, with when, by whom and why; oldest first."""
    async with state.database.autocommit() as tx:
        row = await predictions.find(tx, prediction_id) if caller.is_admin else None
        row = row or await predictions.get(tx, caller.id, prediction_id)
        entries = await timeline.of(tx, row, sees_all=caller.is_admin)
        owner = None if row.account_id == caller.id else await accounts.get(tx, row.account_id)
    if owner is not None:
        await state.views.note(caller.id, owner)
    return Json({"results": [_shown(entry) for entry in entries]})


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "at": rfc3339(entry.at),
        "subject": entry.subject,
        "actor": entry.actor,
        "from": entry.was,
        "to": entry.becomes,
        "reason": entry.reason,
    }
