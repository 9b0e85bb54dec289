"""What is owed to whom: terminal events are rows and are retried, the others pass through Redis and are sent once.

Knows of HTTP only what a status means: `worker/deliveries.py` signs and posts. What its owner reads of all this is in
`core/deliveries.py`.
"""

import random
from datetime import datetime, timedelta
from typing import Any

import orjson
from redis.asyncio import Redis
from sqlalchemy import CTE, Insert, Row, and_, case, func, insert, literal, or_, select, update

from core.database import Transaction, seconds_from_now
from core.errors import NotFound
from core.lifecycle import DeliveryStatus, WebhookEvent
from core.people import audit
from core.redis import DELIVERY_BELL, PASSING_WEBHOOKS, ring
from core.tables import WebhookAttempt, WebhookDelivery

#: What Replicate sends when no filter is given: outputs and completion.
DEFAULT_EVENTS = (WebhookEvent.OUTPUT, WebhookEvent.COMPLETED)

#: After the n-th failed attempt; then it is given up, visibly. Quick at first: most failures are a restart.
RETRY_AFTER = tuple(timedelta(seconds=seconds) for seconds in (1, 5, 20, 60, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600))

#: Each pause is longer by up to this part of it: what failed together does not come back together.
JITTER = 0.2

#: A claimed delivery is due again after this long, should its sender die.
CLAIM_SECONDS = 60

#: A second's work for the database.
RECOVERED_AT_ONCE = 10_000

#: The receiver says that it will never answer again.
_GONE = 410

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
    """Puts one try on record and decides what follows: done, another try, or given up.

    A receiver that is gone (410) is given up at once, visibly; `replay` asks it again.
    """
    await tx.execute(
        insert(WebhookAttempt).values(
            delivery_id=delivery.id,
            number=delivery.attempts,
            http_status=http_status,
            error=error,
            duration_ms=duration_ms,
        )
    )
    undecided = [
        WebhookDelivery.id == delivery.id,
        WebhookDelivery.status == DeliveryStatus.PENDING,
        WebhookDelivery.attempts == delivery.attempts,
    ]
    if http_status is not None and 200 <= http_status < 300:
        values = {"status": DeliveryStatus.DELIVERED, "delivered_at": func.now()}
    else:
        values = _after_failure(delivery, http_status)
        # Replayed while this was on its way: then it is due already.
        undecided.append(WebhookDelivery.attempts_before_replay == delivery.attempts_before_replay)
    await tx.execute(update(WebhookDelivery).where(*undecided).values(**values))
    return values.get("status", DeliveryStatus.PENDING)


def _after_failure(delivery: Row, http_status: int | None) -> dict[str, Any]:
    failed = delivery.attempts - delivery.attempts_before_replay
    if http_status == _GONE or failed > len(RETRY_AFTER):
        return {"status": DeliveryStatus.GIVEN_UP}
    pause = RETRY_AFTER[failed - 1].total_seconds() * (1 + JITTER * random.random())
    return {"next_attempt_at": seconds_from_now(pause)}


_IS_PENDING = WebhookDelivery.status == DeliveryStatus.PENDING
_IS_LATER = WebhookDelivery.next_attempt_at > func.now()
# What was delivered or given up begins anew. What waits is only due now: a try more, which its schedule does not count.
_DUE_AGAIN = {
    "status": DeliveryStatus.PENDING,
    "next_attempt_at": case((_IS_PENDING, func.least(WebhookDelivery.next_attempt_at, func.now())), else_=func.now()),
    "attempts_before_replay": case(
        (~_IS_PENDING, WebhookDelivery.attempts),
        (_IS_LATER, WebhookDelivery.attempts_before_replay + 1),
        else_=WebhookDelivery.attempts_before_replay,
    ),
}


async def replay(tx: Transaction, account_id: str, delivery_id: str) -> Row:
    """Makes it due at once, whatever became of it, under the same id, by which receivers recognise it."""
    its_own = (WebhookDelivery.id == delivery_id, WebhookDelivery.account_id == account_id)
    row = await tx.first(update(WebhookDelivery).where(*its_own).values(**_DUE_AGAIN).returning(WebhookDelivery))
    if row is None:
        raise NotFound("The requested webhook delivery could not be found.")
    await audit.record(tx, "webhook.replay", f"webhook:{delivery_id}", account_id=account_id)
    tx.after_commit(ring, DELIVERY_BELL)
    return row


async def recover(tx: Transaction, account_id: str, since: datetime, until: datetime | None = None) -> int:
    """Makes due at once what was made in that time and has failed, for good or so far: the oldest, `RECOVERED_AT_ONCE`
    of them at most."""
    # One on its way has not failed: it would arrive twice.
    has_failed = (
        select(WebhookAttempt.number)
        .where(WebhookAttempt.delivery_id == WebhookDelivery.id, WebhookAttempt.number == WebhookDelivery.attempts)
        .exists()
    )
    failed = select(WebhookDelivery.id).where(
        WebhookDelivery.account_id == account_id,
        WebhookDelivery.created_at >= since,
        or_(WebhookDelivery.status == DeliveryStatus.GIVEN_UP, and_(_IS_PENDING, _IS_LATER, has_failed)),
    )
    if until is not None:
        failed = failed.where(WebhookDelivery.created_at < until)
    oldest = failed.order_by(WebhookDelivery.created_at).limit(RECOVERED_AT_ONCE).with_for_update(skip_locked=True)
    recovered = await tx.execute(update(WebhookDelivery).where(WebhookDelivery.id.in_(oldest)).values(**_DUE_AGAIN))
    if recovered.rowcount:
        asked = {"since": since, "until": until, "deliveries": recovered.rowcount}
        await audit.record(tx, "webhook.recover", "webhooks", account_id=account_id, after=asked)
    tx.after_commit(ring, DELIVERY_BELL)
    return recovered.rowcount


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
