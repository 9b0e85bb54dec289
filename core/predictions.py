"""The verbs of a prediction. Every status change is here, guarded by id, status and attempt, and named in `lifecycle`.

T1 `create`, T2 `start` and T3 `finish` are the path; the rest is what happens when something falls between them.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, exists, func, insert, or_, select, tuple_, update

from core import metering, queue, streams, webhooks
from core.catalog import Runnable
from core.database import Transaction, seconds_from_now
from core.errors import NotFound, StaleWrite
from core.ids import new_id
from core.lifecycle import FailureCode, InstanceStatus, PredictionStatus, WebhookEvent
from core.redis import node_channel, publish
from core.schema import output_kind
from core.tables import Hardware, Instance, Node, Prediction

#: After a node died, a prediction that had produced nothing runs once more, not for ever.
MAX_ATTEMPTS = 2

INTERRUPTED = "Prediction interrupted; please retry (code: PA)"


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks for, after validation."""

    account_id: str
    runnable: Runnable
    input: dict[str, Any]
    source: str = "api"
    webhook_url: str | None = None
    webhook_events: list[str] | None = None
    deadline_seconds: float | None = None
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, as its runner measured it. No `micros`: nothing was measured, nothing is charged."""

    status: PredictionStatus
    output: Any = None
    error: str | None = None
    failure_code: FailureCode | None = None
    logs: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    micros: int | None = None


# --- reading ----------------------------------------------------------------------------------------------------------


async def get(tx: Transaction, account_id: str, prediction_id: str) -> Row:
    row = await tx.first(select(Prediction).where(Prediction.id == prediction_id, Prediction.account_id == account_id))
    if row is None:
        raise NotFound("The requested prediction could not be found.")
    return row


async def find(tx: Transaction, prediction_id: str) -> Row | None:
    """Whoever owns it: for processes of the platform, and for capability URLs."""
    return await tx.first(select(Prediction).where(Prediction.id == prediction_id))


async def list_page(
    tx: Transaction,
    account_id: str,
    limit: int,
    before: tuple | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    source: str | None = None,
) -> list[Row]:
    """Newest first; `before` is the (created_at, id) of the last one seen."""
    statement = select(Prediction).where(Prediction.account_id == account_id)
    if before is not None:
        statement = statement.where(tuple_(Prediction.created_at, Prediction.id) < before)
    if created_after is not None:
        statement = statement.where(Prediction.created_at >= created_after)
    if created_before is not None:
        statement = statement.where(Prediction.created_at < created_before)
    if source is not None:
        statement = statement.where(Prediction.source == source)
    return list(await tx.all(statement.order_by(Prediction.created_at.desc(), Prediction.id.desc()).limit(limit)))


# --- the path ---------------------------------------------------------------------------------------------------------


async def create(tx: Transaction, request: Request) -> Row:
    """T1: the row, in `starting`; once committed it is queued, and the scheduler woken if nothing serves it."""
    runnable = request.runnable
    row = await tx.one(
        insert(Prediction)
        .values(
            id=request.id,
            account_id=request.account_id,
            model=runnable.model,
            version_id=runnable.version_id,
            target=runnable.target,
            hardware_sku=runnable.hardware_sku,
            source=request.source,
            status=PredictionStatus.STARTING,
            input=request.input,
            stream_kind=output_kind(runnable.openapi_schema).stream_kind,
            webhook_url=request.webhook_url,
            webhook_events=request.webhook_events,
            deadline_at=None if request.deadline_seconds is None else seconds_from_now(request.deadline_seconds),
        )
        .returning(Prediction)
    )
    tx.after_commit(queue.push, runnable.target, request.account_id, request.id)
    return row


async def start(tx: Transaction, prediction_id: str, instance_id: str, node_boot_id: str) -> Row | None:
    """T2: `starting -> processing` on this Instance, at today's price. None: somebody else has it, or it has ended.

    A node whose lease ran out, or that has been reborn since, is refused here.
    """
    holds_lease = exists().where(
        Instance.id == instance_id,
        Instance.status == InstanceStatus.READY,
        Node.id == Instance.node_id,
        Node.boot_id == node_boot_id,
        Node.lease_expires_at > func.now(),
    )
    price = select(Hardware.price_nanos_per_second).where(Hardware.sku == Prediction.hardware_sku).scalar_subquery()
    return await tx.first(
        update(Prediction)
        .where(Prediction.id == prediction_id, Prediction.status == PredictionStatus.STARTING, holds_lease)
        .values(
            status=PredictionStatus.PROCESSING,
            started_at=func.clock_timestamp(),
            attempt=Prediction.attempt + 1,
            instance_id=instance_id,
            node_boot_id=node_boot_id,
            price_nanos_per_second=price,
            queue_reason=None,
        )
        .returning(Prediction)
    )


async def append(tx: Transaction, prediction_id: str, attempt: int, output: Any, logs: str) -> bool:
    """What a running prediction has produced so far. False: it is no longer this attempt's to write."""
    written = await tx.execute(update(Prediction).where(_held(prediction_id, attempt)).values(output=output, logs=logs))
    return bool(written.rowcount)


async def finish(tx: Transaction, prediction_id: str, attempt: int, outcome: Outcome) -> Row:
    """T3: the end, with its usage record, its charge and its owed webhook, or none of them. Raises `StaleWrite`."""
    row = await tx.first(
        update(Prediction)
        .where(_held(prediction_id, attempt))
        .values(
            status=outcome.status,
            output=outcome.output,
            error=outcome.error,
            failure_code=outcome.failure_code,
            logs=outcome.logs,
            metrics=outcome.metrics,
            completed_at=func.clock_timestamp(),
        )
        .returning(Prediction)
    )
    if row is None:
        raise StaleWrite()
    if outcome.micros is not None:
        await metering.record(tx, _usage(row, outcome.micros))
    await _ended(tx, row)
    return row


# --- cancelling -------------------------------------------------------------------------------------------------------


async def cancel(tx: Transaction, account_id: str, prediction_id: str) -> Row:
    """Ends a waiting prediction at once and asks the runner of a running one; what has ended stays as it is."""
    row = await tx.first(
        update(Prediction)
        .where(
            Prediction.id == prediction_id,
            Prediction.account_id == account_id,
            Prediction.status == PredictionStatus.STARTING,
        )
        .values(
            status=PredictionStatus.CANCELED,
            cancel_requested_at=func.now(),
            completed_at=func.clock_timestamp(),
            queue_reason=None,
        )
        .returning(Prediction)
    )
    if row is not None:
        tx.after_commit(queue.remove, row.target, row.account_id, row.id)
        await _ended(tx, row)
        return row
    await _ask_to_cancel(tx, prediction_id, account_id)
    return await get(tx, account_id, prediction_id)


async def _ask_to_cancel(tx: Transaction, prediction_id: str, account_id: str) -> None:
    asked = await tx.first(
        update(Prediction)
        .where(
            Prediction.id == prediction_id,
            Prediction.account_id == account_id,
            Prediction.status == PredictionStatus.PROCESSING,
        )
        .values(cancel_requested_at=func.coalesce(Prediction.cancel_requested_at, func.now()))
        .returning(Prediction.instance_id)
    )
    if asked is not None:
        node_id = await tx.scalar(select(Instance.node_id).where(Instance.id == asked.instance_id))
        tx.after_commit(publish, node_channel(node_id), f"cancel {prediction_id}")


async def cancel_requested(tx: Transaction, node_boot_id: str) -> list[str]:
    """What the runners of this node must stop: asked for, or past its deadline. The backstop of the message."""
    rows = await tx.all(
        select(Prediction.id).where(
            Prediction.completed_at.is_(None),
            Prediction.status == PredictionStatus.PROCESSING,
            Prediction.node_boot_id == node_boot_id,
            or_(Prediction.cancel_requested_at.is_not(None), Prediction.deadline_at < func.now()),
        )
    )
    return [row.id for row in rows]


# --- when something fell between two steps ----------------------------------------------------------------------------


async def waiting_since(tx: Transaction, seconds: float, limit: int) -> list[Row]:
    """Waiting predictions that a doorbell may have missed, oldest first."""
    return list(
        await tx.all(
            select(Prediction.id, Prediction.target, Prediction.account_id)
            .where(
                Prediction.completed_at.is_(None),
                Prediction.status == PredictionStatus.STARTING,
                Prediction.created_at < seconds_from_now(-seconds),
            )
            .order_by(Prediction.created_at)
            .limit(limit)
        )
    )


async def orphans(tx: Transaction, limit: int, *, leases_count: bool) -> list[Row]:
    """Running predictions whose holder is gone: its node's life is over, or its Instance has ended; and, if
    `leases_count`, its node's lease ran out."""
    alive = exists().where(
        Instance.id == Prediction.instance_id,
        Instance.status.in_((InstanceStatus.READY, InstanceStatus.DRAINING)),
        Node.id == Instance.node_id,
        Node.boot_id == Prediction.node_boot_id,
        *([Node.lease_expires_at > func.now()] if leases_count else []),
    )
    return list(
        await tx.all(
            select(Prediction.id, Prediction.attempt, Prediction.version_id)
            .where(Prediction.completed_at.is_(None), Prediction.status == PredictionStatus.PROCESSING, ~alive)
            .limit(limit)
        )
    )


async def interrupt(tx: Transaction, prediction_id: str, attempt: int, allows_retry: bool) -> None:
    """Its holder is gone, or gives it up: it waits again if it had produced nothing, and fails otherwise."""
    row = await tx.first(select(Prediction).where(_held(prediction_id, attempt)).with_for_update())
    if row is None:
        return
    untouched = row.output is None and not row.logs and row.cancel_requested_at is None
    if allows_retry and untouched and attempt < MAX_ATTEMPTS:
        await _requeue(tx, row)
        return
    canceled = row.cancel_requested_at is not None
    await finish(
        tx,
        prediction_id,
        attempt,
        Outcome(
            PredictionStatus.CANCELED if canceled else PredictionStatus.FAILED,
            output=row.output,
            error=None if canceled else INTERRUPTED,
            failure_code=None if canceled else FailureCode.NODE_LOST,
            logs=row.logs,
        ),
    )


async def _requeue(tx: Transaction, row: Row) -> None:
    await tx.execute(
        update(Prediction)
        .where(_held(row.id, row.attempt))
        .values(status=PredictionStatus.STARTING, started_at=None, instance_id=None, node_boot_id=None)
    )
    tx.after_commit(queue.push, row.target, row.account_id, row.id)


async def expire(tx: Transaction) -> int:
    """Aborts, free of charge, what waited past its deadline."""
    rows = await tx.all(
        update(Prediction)
        .where(
            Prediction.completed_at.is_(None),
            Prediction.status == PredictionStatus.STARTING,
            Prediction.deadline_at < func.now(),
        )
        .values(status=PredictionStatus.ABORTED, completed_at=func.clock_timestamp(), queue_reason=None)
        .returning(Prediction)
    )
    for row in rows:
        tx.after_commit(queue.remove, row.target, row.account_id, row.id)
        await _ended(tx, row)
    return len(rows)


async def refuse(tx: Transaction, target: str, code: FailureCode, error: str, logs: str = "") -> int:
    """Fails everything that waits for a target which cannot run: its Version could not be prepared, or set up."""
    rows = await tx.all(
        update(Prediction)
        .where(
            Prediction.completed_at.is_(None),
            Prediction.target == target,
            Prediction.status == PredictionStatus.STARTING,
        )
        .values(
            status=PredictionStatus.FAILED,
            failure_code=code,
            error=error,
            logs=logs,
            completed_at=func.clock_timestamp(),
            queue_reason=None,
        )
        .returning(Prediction)
    )
    for row in rows:
        tx.after_commit(queue.remove, row.target, row.account_id, row.id)
        await _ended(tx, row)
    return len(rows)


async def explain(tx: Transaction, target: str, reason: str) -> None:
    """Tells everyone who waits for a target why."""
    await tx.execute(
        update(Prediction)
        .where(
            Prediction.completed_at.is_(None),
            Prediction.target == target,
            Prediction.status == PredictionStatus.STARTING,
            Prediction.queue_reason.is_distinct_from(reason),
        )
        .values(queue_reason=reason)
    )


async def demand(tx: Transaction) -> list[Row]:
    """Per target: how many wait, how many run, and since when the oldest waits."""
    waits = Prediction.status == PredictionStatus.STARTING
    return list(
        await tx.all(
            select(
                Prediction.target,
                Prediction.version_id,
                Prediction.hardware_sku,
                func.count().filter(waits).label("waiting"),
                func.count().filter(~waits).label("running"),
                func.extract("epoch", func.now() - func.min(Prediction.created_at).filter(waits)).label("oldest_wait"),
            )
            .where(Prediction.completed_at.is_(None))
            .group_by(Prediction.target, Prediction.version_id, Prediction.hardware_sku)
        )
    )


async def running_by_instance(tx: Transaction) -> dict[str, int]:
    """How many predictions each Instance runs; Instances that run none are not named."""
    rows = await tx.all(
        select(Prediction.instance_id, func.count().label("running"))
        .where(Prediction.completed_at.is_(None), Prediction.instance_id.is_not(None))
        .group_by(Prediction.instance_id)
    )
    return {row.instance_id: row.running for row in rows}


# --- shared by the verbs ----------------------------------------------------------------------------------------------


def _held(prediction_id: str, attempt: int) -> ColumnElement[bool]:
    """The guard of every write that belongs to a run: terminal is sticky, and an old attempt is nobody's."""
    return and_(
        Prediction.id == prediction_id,
        Prediction.status == PredictionStatus.PROCESSING,
        Prediction.attempt == attempt,
    )


async def _ended(tx: Transaction, row: Row) -> None:
    """What every way to end shares: the webhook is owed, and whoever waits or listens is woken."""
    await webhooks.owe(tx, row, WebhookEvent.COMPLETED)
    tx.after_commit(streams.end, row.id, row.status, row.error)


def _usage(row: Row, micros: int) -> metering.Usage:
    return metering.Usage(
        cause_kind="prediction",
        cause_id=row.id,
        account_id=row.account_id,
        model=row.model,
        version_id=row.version_id,
        hardware_sku=row.hardware_sku,
        micros=micros,
        price_nanos_per_second=row.price_nanos_per_second,
        ended_at=row.completed_at,
    )
