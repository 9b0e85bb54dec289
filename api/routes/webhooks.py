"""The secret that signs webhooks, and the log of what was sent: to look at, and to send again."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import Row

from api.access import needs
from api.dependencies import Caller, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.moments import Moment
from api.schemas.webhooks import (
    DeliveryResponse,
    DeliveryWithAttemptsResponse,
    RecoverRequest,
    RecoverResponse,
    RotationResponse,
    SecretResponse,
)
from core import deliveries, webhooks
from core.clock import rfc3339
from core.lifecycle import DeliveryStatus
from core.people import accounts
from core.people.tokens import Scope

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=Route)


@router.get("/default/secret", operation_id="webhooks.default.secret.get", response_model=SecretResponse)
@needs(Scope.RUN)
async def get_secret(caller: Caller, tx: Reading) -> Json:
    """Get the secret that signs the webhooks of the account."""
    # Read anew: the caller may be remembered from before a rotation.
    return Json({"key": (await accounts.get(tx, caller.id)).webhook_secret})


@router.post("/default/secret/rotate", operation_id="webhooks.default.secret.rotate", response_model=RotationResponse)
@needs(Scope.ADMIN)
async def rotate_secret(caller: Caller, tx: Tx) -> Json:
    """Sign with a new secret from now on, and with the present one too for 24 hours."""
    row = await accounts.rotate_webhook_secret(tx, caller.id)
    return Json({"key": row.webhook_secret, "previous_expires_at": rfc3339(row.previous_webhook_secret_until)})


@router.get("/deliveries", operation_id="webhooks.deliveries.list", response_model=Page[DeliveryResponse])
@needs(Scope.READ)
async def list_deliveries(
    request: Request,
    state: StateDep,
    caller: Caller,
    tx: Reading,
    cursor: Cursor,
    status: DeliveryStatus | None = None,
    prediction: Annotated[str | None, Query(max_length=100, description="Id of a prediction.")] = None,
    created_after: Moment | None = None,
    created_before: Moment | None = None,
) -> Json:
    """List what was owed to the webhooks of the account, newest first."""
    rows = await deliveries.list_page(
        tx,
        caller.id,
        PAGE_SIZE + 1,
        cursor,
        status=status,
        prediction_id=prediction,
        created_after=created_after,
        created_before=created_before,
    )
    return Json(page(state.settings, request, rows, PAGE_SIZE, [_delivery(row) for row in rows[:PAGE_SIZE]]))


@router.get(
    "/deliveries/{delivery_id}", operation_id="webhooks.deliveries.get", response_model=DeliveryWithAttemptsResponse
)
@needs(Scope.READ)
async def get_delivery(delivery_id: str, caller: Caller, tx: Reading) -> Json:
    """Get a delivery with its attempts."""
    row = await deliveries.get(tx, caller.id, delivery_id)
    attempts = [_attempt(attempt) for attempt in await deliveries.attempts(tx, row.id)]
    return Json({**_delivery(row), "attempts": attempts})


@router.post(
    "/deliveries/{delivery_id}/replay",
    operation_id="webhooks.deliveries.replay",
    status_code=202,
    response_model=DeliveryResponse,
)
@needs(Scope.WRITE)
async def replay_delivery(delivery_id: str, caller: Caller, tx: Tx) -> Json:
    """Send it again at once, whatever became of it, with the prediction as it is now and the same `webhook-id`."""
    return Json(_delivery(await webhooks.replay(tx, caller.id, delivery_id)), 202)


@router.post(
    "/deliveries/recover", operation_id="webhooks.deliveries.recover", status_code=202, response_model=RecoverResponse
)
@needs(Scope.WRITE)
async def recover_deliveries(body: RecoverRequest, caller: Caller, tx: Tx) -> Json:
    """Send everything again at once that was to be told since then and has failed, for good or so far."""
    return Json({"recovered": await webhooks.recover(tx, caller.id, body.since, body.until)}, 202)


def _delivery(row: Row) -> dict[str, Any]:
    is_pending = row.status == DeliveryStatus.PENDING
    return {
        "id": row.id,
        "prediction": row.prediction_id,
        "event": row.event,
        "url": row.url,
        "status": row.status,
        "attempt_count": row.attempts,
        "created_at": rfc3339(row.created_at),
        "next_attempt_at": rfc3339(row.next_attempt_at) if is_pending else None,
        "delivered_at": rfc3339(row.delivered_at),
    }


def _attempt(row: Row) -> dict[str, Any]:
    return {
        "number": row.number,
        "created_at": rfc3339(row.created_at),
        "http_status": row.http_status,
        "error": row.error,
        "duration_ms": row.duration_ms,
    }
