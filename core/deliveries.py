"""The log of webhooks, as their owner reads it: what is owed, and every try. Moves nothing: `core/webhooks.py` does."""

from datetime import datetime

from sqlalchemy import Row, select, tuple_

from core.database import Transaction
from core.errors import NotFound
from core.lifecycle import DeliveryStatus
from core.tables import WebhookAttempt, WebhookDelivery

_ORDER = (WebhookDelivery.created_at, WebhookDelivery.id)


async def list_page(
    tx: Transaction,
    account_id: str,
    limit: int,
    before: tuple[datetime, str] | None = None,
    *,
    status: DeliveryStatus | None = None,
    prediction_id: str | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
) -> list[Row]:
    """Newest first; `before` is the (created_at, id) of the last one seen."""
    statement = select(WebhookDelivery).where(WebhookDelivery.account_id == account_id)
    if before is not None:
        statement = statement.where(tuple_(*_ORDER) < tuple_(*before))
    if status is not None:
        statement = statement.where(WebhookDelivery.status == status)
    if prediction_id is not None:
        statement = statement.where(WebhookDelivery.prediction_id == prediction_id)
    if created_after is not None:
        statement = statement.where(WebhookDelivery.created_at >= created_after)
    if created_before is not None:
        statement = statement.where(WebhookDelivery.created_at < created_before)
    return list(await tx.all(statement.order_by(*(column.desc() for column in _ORDER)).limit(limit)))


async def get(tx: Transaction, account_id: str, delivery_id: str) -> Row:
    row = await tx.first(
        select(WebhookDelivery).where(WebhookDelivery.id == delivery_id, WebhookDelivery.account_id == account_id)
    )
    if row is None:
        raise NotFound("The requested webhook delivery could not be found.")
    return row


async def attempts(tx: Transaction, delivery_id: str) -> list[Row]:
    """Oldest first."""
    statement = select(WebhookAttempt).where(WebhookAttempt.delivery_id == delivery_id)
    return list(await tx.all(statement.order_by(WebhookAttempt.number)))
