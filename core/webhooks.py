"""What is owed to whom: terminal events are rows and are retried, the others pass through Redis and are sent once.

Knows no HTTP: `worker/deliveries.py` signs and posts.
"""

from datetime import timedelta

import orjson
from redis.asyncio import Redis
from sqlalchemy import CTE, Insert, Row, func, insert, literal, or_, select, update

from core.database import Transaction, seconds_from_now
from core.lifecycle import DeliveryStatus, WebhookEvent
from core.redis import DELIVERY_BELL, PASSING_WEBHOOKS
from core.tables import WebhookAttempt, WebhookDelivery

#: What Replicate sends when no filter is given: outputs and completion.
DEFAULT_EVENTS = (WebhookEvent.OUTPUT, WebhookEvent.COMPLETED)

#: After the n-th failed attempt; then it is given up, visibly. Quick at first: most failures are a restart.
RETRY_AFTER = tuple(timedelta(seconds=seconds) for seconds in (1, 5, 20, 60, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600))

#: A claimed delivery is due again after this long, should its sender die.
CLAIM_SECONDS = 60

# Passing events that nobody collects are worth nothing after a while.
_PASSING_CAP = 10_000


def wants(row: Row, event: WebhookEvent) -> bool:
    events = DEFAULT_EVENTS if row.webhook_events is None else row.webhook_events
    return bool(row.webhook_url) and event in events


def owed(ended: CTE) -> Insert:
    """Owes the end of predictions to the webhooks that asked for it; once each, since the id follows from theirs."""
    events = ended.c.webhook_events
    columns = {
        "id": literal("msg_") + ended.c.id,
        "account_id": ended.c.account_id,
        "prediction_id": ended.c.id,
        "event": literal(WebhookEvent.COMPLETED.value),
        "url": ended.c.webhook_url,
        "status": literal(DeliveryStatus.PENDING.value),
        "next_attempt_at": func.now(),
    }
    wanted = or_(events.is_(None), literal(WebhookEvent.COMPLETED.value) == events.any_())
    return insert(WebhookDelivery).from_select(
        list(columns), select(*columns.values()).where(ended.c.webhook_url.is_not(None), wanted)
    )


async def pass_on(redis: Redis, prediction_id: str, event: WebhookEvent) -> None:
    """Hands a start, output or logs event to the webhook sender. Losing one is allowed."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.lpush(PASSING_WEBHOOKS, orjson.dumps([prediction_id, event]))
    pipeline.ltrim(PASSING_WEBHOOKS, 0, _PASSING_CAP)
    pipeline.lpush(DELIVERY_BELL, 1)
    pipeline.ltrim(DELIVERY_BELL, 0, 0)
    await pipeline.execute()


async def collect_passing(redis: Redis, limit: int) -> list[tuple[str, WebhookEvent]]:
    taken = await redis.rpop(PASSING_WEBHOOKS, limit) or []
    return [(id, WebhookEvent(event)) for id, event in map(orjson.loads, taken)]


async def claim_due(tx: Transaction, limit: int) -> list[Row]:
    """Takes due deliveries, each for one attempt; a sender that dies leaves them due again after `CLAIM_SECONDS`."""
    due = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.status == DeliveryStatus.PENDING, WebhookDelivery.next_attempt_at <= func.now())
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return list(
        await tx.all(
            update(WebhookDelivery)
            .where(WebhookDelivery.id.in_(due))
            .values(attempts=WebhookDelivery.attempts + 1, next_attempt_at=seconds_from_now(CLAIM_SECONDS))
            .returning(WebhookDelivery)
        )
    )


async def record_attempt(
    tx: Transaction, delivery: Row, http_status: int | None, error: str | None, duration_ms: int
) -> DeliveryStatus:
    """Puts one try on record and decides what follows: done, another try, or given up."""
    await tx.execute(
        insert(WebhookAttempt).values(
            delivery_id=delivery.id,
            number=delivery.attempts,
            http_status=http_status,
            error=error,
            duration_ms=duration_ms,
        )
    )
    delivered = http_status is not None and 200 <= http_status < 300
    if delivered:
        values = {"status": DeliveryStatus.DELIVERED, "delivered_at": func.now()}
    elif delivery.attempts <= len(RETRY_AFTER):
        values = {"next_attempt_at": seconds_from_now(RETRY_AFTER[delivery.attempts - 1].total_seconds())}
    else:
        values = {"status": DeliveryStatus.GIVEN_UP}
    await tx.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.id == delivery.id,
            WebhookDelivery.status == DeliveryStatus.PENDING,
            WebhookDelivery.attempts == delivery.attempts,
        )
        .values(**values)
    )
    return values.get("status", DeliveryStatus.PENDING)


async def seconds_to_next(tx: Transaction) -> float | None:
    """How long until the next delivery is due; None: nothing is owed."""
    wait = func.extract("epoch", func.min(WebhookDelivery.next_attempt_at) - func.now())
    seconds = await tx.scalar(select(wait).where(WebhookDelivery.status == DeliveryStatus.PENDING))
    return None if seconds is None else max(0.0, float(seconds))


async def overdue(tx: Transaction, seconds: float) -> bool:
    """Whether something has been due for so long that its doorbell must have been lost."""
    return bool(
        await tx.scalar(
            select(
                select(WebhookDelivery.id)
                .where(
                    WebhookDelivery.status == DeliveryStatus.PENDING,
                    WebhookDelivery.next_attempt_at < seconds_from_now(-seconds),
                )
                .exists()
            )
        )
    )
