"""The verbs of a prediction. Every status change is here or in `unstarted`, guarded by id, status and attempt, and
named in `lifecycle`.

T1 `create`, T2 `start` and T3 `finish` are the path; the rest is what happens when something falls between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Double,
    Row,
    bindparam,
    case,
    cast,
    exists,
    func,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from core import boots, concurrency, endings, events, queue, unstarted
from core.catalog import Runnable
from core.database import Direct, Hot, Transaction, seconds_from_now
from core.endings import TABLE, held
from core.errors import NotFound, StaleWrite
from core.ids import new_id
from core.lifecycle import FailureCode, InstanceStatus, PredictionStatus
from core.money import holds, prices
from core.queue import Priority
from core.schema import UNKNOWN_STREAM, output_kind
from core.tables import Instance, Node, Prediction, Version

#: After a node died, a prediction that had produced nothing runs once more, not for ever.
MAX_ATTEMPTS = 2

INTERRUPTED = "Prediction interrupted; please retry (code: PA)"


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks for, after validation."""

    account_id: str
    runnable: Runnable
    input: dict[str, Any]
    secret_inputs: list[str] | None = None
    source: str = "api"
    webhook_url: str | None = None
    webhook_events: list[str] | None = None
    deadline_seconds: float | None = None
    cache_key: bytes | None = None
    token_id: str | None = None
    tags: dict[str, str] | None = None
    priority: Priority = Priority.NORMAL
    hold_nanos: int | None = None
    """Set aside in its Account's wallet until it ends; None: the Account owes without limit."""
    id: str = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, as its runner measured it. No `micros`: nothing was measured, nothing is charged.

    `units` are `pricing.unit_lines`, where its Model is priced by what it makes.
    """

    status: PredictionStatus
    output: Any = None
    error: str | None = None
    failure_code: FailureCode | None = None
    logs: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    micros: int | None = None
    units: list[dict[str, Any]] | None = None


# --- reading ----------------------------------------------------------------------------------------------------------


_GET = Hot(select(TABLE).where(TABLE.c.id == bindparam("p_id"), TABLE.c.account_id == bindparam("p_account")))


async def get(tx: Transaction | Direct, account_id: str, prediction_id: str) -> Row:
    row = await tx.run(_GET, {"p_id": prediction_id, "p_account": account_id})
    if row is None:
        raise NotFound("The requested prediction could not be found.")
    return row


_FIND = Hot(select(TABLE).where(TABLE.c.id == bindparam("p_id")))


async def find(tx: Transaction | Direct, prediction_id: str) -> Row | None:
    """Whoever owns it: for processes of the platform, and for capability URLs."""
    return await tx.run(_FIND, {"p_id": prediction_id})


# --- the path ---------------------------------------------------------------------------------------------------------


_CREATED_WITH = (
    *("id", "account_id", "model", "version_id", "target", "hardware_sku", "source", "status", "input"),
    "secret_inputs",
    *("priority", "stream_kind", "webhook_url", "webhook_events", "deployment", "cache_key", "token_id", "tags"),
    "held_nanos",
)
# Without a deadline the interval is null, and so is the sum.
_DEADLINE = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, cast(bindparam("p_deadline"), Double))
_NEW = {name: bindparam(f"p_{name}", type_=TABLE.c[name].type) for name in _CREATED_WITH} | {"deadline_at": _DEADLINE}
_INSERT = upsert(TABLE).values(_NEW).on_conflict_do_nothing(index_elements=["id"]).returning(*TABLE.c)
_CREATE = Hot(_INSERT)
_CREATE_FUNDED = Hot(holds.funded(_INSERT))


async def create(tx: Transaction | Direct, request: Request) -> Row:
    """T1: the row, in `starting`; once committed it is queued, and the scheduler woken if nothing serves it.

    The same id again changes nothing, and returns the row as it is now. Raises `PaymentRequired` where its Account has
    less to spend than is to be held.
    """
    statement = _CREATE if request.hold_nanos is None else _CREATE_FUNDED
    parameters = {f"p_{name}": value for name, value in values_of(request).items()}
    with holds.refusals():
        row = await tx.run(statement, {**parameters, "p_deadline": request.deadline_seconds})
    if row is None:
        return await get(tx, request.account_id, request.id)
    tx.after_commit(queue.push, row.target, row.account_id, row.id, row.priority)
    return row


def values_of(request: Request) -> dict[str, Any]:
    """The row of a new prediction, but for its deadline."""
    runnable = request.runnable
    return {
        "id": request.id,
        "account_id": request.account_id,
        "model": runnable.model,
        "version_id": runnable.version_id,
        "target": runnable.target,
        "hardware_sku": runnable.hardware_sku,
        "source": request.source,
        "status": PredictionStatus.STARTING.value,
        "input": request.input,
        "secret_inputs": request.secret_inputs,
        "stream_kind": _stream_kind(runnable),
        "webhook_url": request.webhook_url,
        "webhook_events": request.webhook_events,
        "deployment": runnable.deployment,
        "cache_key": request.cache_key,
        "token_id": request.token_id,
        "tags": request.tags,
        "held_nanos": request.hold_nanos,
        "priority": request.priority.value,
    }


def _stream_kind(runnable: Runnable) -> str | None:
    """What is not prepared yet may turn out to be anything, so it can be listened to: whoever does hears its output,
    whole if it does not come in pieces."""
    return UNKNOWN_STREAM if runnable.openapi_schema is None else output_kind(runnable.openapi_schema).stream_kind


# Joined, so that the Instance's row is read once, whatever is taken from it.
_HOLDS_LEASE = (
    Instance.id == bindparam("p_instance"),
    Instance.target == TABLE.c.target,
    Instance.status == InstanceStatus.READY.value,
    Node.id == Instance.node_id,
    Node.boot_id == bindparam("p_boot"),
    Node.lease_expires_at > func.now(),
)
# Where its Instance's time is billed, the run itself costs nothing.
_PRICE_ID, _PRICE = prices.second_of(TABLE.c.hardware_sku, TABLE.c.account_id, func.now())
_UNIT_PRICES = prices.units_of(TABLE.c.model, TABLE.c.account_id, func.now())
_START = Hot(
    update(TABLE)
    .where(TABLE.c.id == bindparam("p_id"), TABLE.c.status == PredictionStatus.STARTING.value, *_HOLDS_LEASE)
    .values(
        status=PredictionStatus.PROCESSING.value,
        started_at=func.clock_timestamp(),
        attempt=TABLE.c.attempt + 1,
        instance_id=bindparam("p_instance"),
        node_boot_id=bindparam("p_boot"),
        price_id=_PRICE_ID,
        price_nanos_per_second=case((Instance.bills_time, 0), else_=_PRICE),
        unit_prices=case((Instance.bills_time, null()), else_=_UNIT_PRICES),
        queue_reason=None,
        **boots.waited_for(TABLE.c.created_at),
    )
    .returning(*TABLE.c)
)


async def start(tx: Transaction | Direct, prediction_id: str, instance_id: str, node_boot_id: str) -> Row | None:
    """T2: `starting -> processing` on this Instance, at today's price. None: somebody else has it, or it has ended.

    A node whose lease ran out, or that has been reborn since, is refused here.
    """
    parameters = {"p_id": prediction_id, "p_instance": instance_id, "p_boot": node_boot_id}
    return await tx.run(_START, parameters)


async def append(tx: Transaction, prediction_id: str, attempt: int, output: Any, logs: str) -> bool:
    """What a running prediction has produced so far. False: it is no longer this attempt's to write."""
    written = await tx.execute(update(Prediction).where(held(prediction_id, attempt)).values(output=output, logs=logs))
    return bool(written.rowcount)


async def finish(tx: Transaction | Direct, prediction_id: str, attempt: int, outcome: Outcome) -> None:
    """T3: the end, with its usage record, its charge and its owed webhook, or none of them. Raises `StaleWrite`."""
    ended = await endings.finish(
        tx,
        {
            "p_id": prediction_id,
            "p_attempt": attempt,
            "p_status": outcome.status.value,
            "p_output": outcome.output,
            "p_error": outcome.error,
            "p_failure_code": outcome.failure_code,
            "p_logs": outcome.logs,
            "p_metrics": outcome.metrics,
            "p_micros": outcome.micros,
            "p_units": outcome.units,
            "p_units_nanos": None if outcome.units is None else sum(line["amount_nanos"] for line in outcome.units),
        },
    )
    if ended is None:
        raise StaleWrite()


# --- cancelling -------------------------------------------------------------------------------------------------------


async def cancel(tx: Transaction, account_id: str, prediction_id: str) -> Row:
    """Ends a waiting prediction at once and asks the runner of a running one; what has ended stays as it is."""
    await unstarted.cancel(tx, TABLE.c.id == prediction_id, TABLE.c.account_id == account_id)
    return await get(tx, account_id, prediction_id)


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


async def running_on(tx: Transaction, node_boot_id: str) -> Sequence[Row]:
    """What the rows say this life of a node runs; a node that does not know of one gives it up with `interrupt`."""
    return await tx.all(
        select(Prediction.id, Prediction.attempt, Version.allows_retry)
        .join(Version, Version.id == Prediction.version_id)
        .where(
            Prediction.completed_at.is_(None),
            Prediction.status == PredictionStatus.PROCESSING,
            Prediction.node_boot_id == node_boot_id,
        )
    )


async def waiting_since(tx: Transaction, seconds: float, limit: int, after: tuple | None = None) -> Sequence[Row]:
    """Waiting predictions that a doorbell may have missed, target by target and there the oldest first; `after` is the
    (target, created_at, id) of the last one seen."""
    place = (Prediction.target, Prediction.created_at, Prediction.id)
    return await tx.all(
        select(*place, Prediction.account_id, Prediction.priority)
        .where(
            Prediction.completed_at.is_(None),
            Prediction.status == PredictionStatus.STARTING,
            Prediction.created_at < seconds_from_now(-seconds),
            *([] if after is None else [tuple_(*place) > after]),
        )
        .order_by(*place)
        .limit(limit)
    )


async def orphans(tx: Transaction, limit: int) -> list[Row]:
    """Running predictions whose holder is gone: the life of its node is over, or its Instance has ended, and why if
    that has failed."""
    alive = exists().where(
        Instance.id == Prediction.instance_id,
        Instance.status.in_((InstanceStatus.READY, InstanceStatus.DRAINING)),
        Node.id == Instance.node_id,
        Node.boot_id == Prediction.node_boot_id,
    )
    ended = (
        select(Instance.reason)
        .where(Instance.id == Prediction.instance_id, Instance.status == InstanceStatus.FAILED)
        .scalar_subquery()
    )
    return list(
        await tx.all(
            select(Prediction.id, Prediction.attempt, Prediction.version_id, ended.label("instance_reason"))
            .where(Prediction.completed_at.is_(None), Prediction.status == PredictionStatus.PROCESSING, ~alive)
            .limit(limit)
        )
    )


async def interrupt(
    tx: Transaction,
    prediction_id: str,
    attempt: int,
    allows_retry: bool,
    *,
    actor: str = events.SCHEDULER,
    reason: str = "nobody ran it any more",
    has_begun: bool = True,
) -> None:
    """Its holder is gone, or gives it up: it waits again if it had produced nothing, and fails otherwise. What is known
    not to have begun always waits again.

    `reason` goes into a sentence that its owner reads, so it names nothing of another Account.
    """
    row = await tx.first(select(Prediction).where(held(prediction_id, attempt)).with_for_update())
    if row is None:
        return
    untouched = row.output is None and not row.logs and row.cancel_requested_at is None
    if untouched and (not has_begun or (allows_retry and attempt < MAX_ATTEMPTS)):
        await _tell_of_start(tx, row)
        await _requeue(tx, row)
        status = PredictionStatus.STARTING
    else:
        canceled = row.cancel_requested_at is not None
        status = PredictionStatus.CANCELED if canceled else PredictionStatus.FAILED
        outcome = Outcome(
            status,
            output=row.output,
            error=None if canceled else INTERRUPTED,
            failure_code=None if canceled else FailureCode.NODE_LOST,
            logs=row.logs,
        )
        await finish(tx, prediction_id, attempt, outcome)
    said = f"Attempt {attempt}, on instance {row.instance_id}, came to nothing: {reason}."
    subject = events.prediction(prediction_id)
    await events.record(tx, subject, actor, was=PredictionStatus.PROCESSING, becomes=status, reason=said)


async def _tell_of_start(tx: Transaction, row: Row) -> None:
    """Of an attempt of which its row will tell nothing any more."""
    name = await tx.scalar(
        select(Node.name).join(Instance, Instance.node_id == Node.id).where(Instance.id == row.instance_id)
    )
    move = {"was": PredictionStatus.STARTING, "becomes": PredictionStatus.PROCESSING}
    said = f"Attempt {row.attempt}, on instance {row.instance_id}."
    start = events.event(events.prediction(row.id), events.node(name or ""), **move, reason=said, at=row.started_at)
    await events.record_all(tx, start)


async def _requeue(tx: Transaction, row: Row) -> None:
    await tx.execute(
        update(Prediction)
        .where(held(row.id, row.attempt))
        .values(status=PredictionStatus.STARTING, started_at=None, instance_id=None, node_boot_id=None)
    )
    # First it no longer counts as running, or it might stand in its own way.
    tx.after_commit(concurrency.release, [(row.account_id, row.id)])
    tx.after_commit(queue.put_back, row.target, row.account_id, row.id, row.priority)
