"""The verbs of a prediction. Every status change is here or in `unstarted`, guarded by id, status and attempt, and
named in `lifecycle`.

T1 `create`, T2 `start` and T3 `finish` are the path; the rest is what happens when something falls between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Double,
    Row,
    Select,
    Subquery,
    bindparam,
    case,
    cast,
    exists,
    func,
    null,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from core import endings, holds, prices, queue, unstarted
from core.catalog import Runnable
from core.database import Direct, Hot, Transaction, seconds_from_now
from core.endings import TABLE, held
from core.errors import NotFound, StaleWrite
from core.ids import new_id
from core.lifecycle import FailureCode, InstanceStatus, PredictionStatus
from core.schema import output_kind
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


# A page shows everything but logs, which may be a megabyte each, and of the rest not much more than this.
_PAGE_BYTES = 16 * 1024 * 1024
# Postgres tells no size but the stored one. What it has compressed is at most some 90 times that, mostly 3 to 5.
_COMPRESSION = 32
_LISTED = [column for column in TABLE.c if column is not TABLE.c.logs]
_LARGE = ("input", "output")
_ORDER = (TABLE.c.created_at.desc(), TABLE.c.id.desc())
# Written out, as the index of these few has it: what a parameter will be, no planner knows.
_FROM = {"web": text("source = 'web'")}


@cache
def _page(asked: frozenset[str], source: str | None) -> Hot:
    """The statement with just the conditions asked for, so that each is looked up in an index."""
    conditions = {
        "p_moment": tuple_(TABLE.c.created_at, TABLE.c.id) < tuple_(bindparam("p_moment"), bindparam("p_before")),
        "p_created_after": TABLE.c.created_at >= bindparam("p_created_after"),
        "p_created_before": TABLE.c.created_at < bindparam("p_created_before"),
    }
    statement = select(*_LISTED, (_weight(TABLE.c.input) + _weight(TABLE.c.output)).label("weight"))
    statement = statement.where(TABLE.c.account_id == bindparam("p_account"))
    statement = statement.where(*(condition for name, condition in conditions.items() if name in asked))
    if source is not None:
        statement = statement.where(_FROM[source])
    return Hot(_fitting(statement.order_by(*_ORDER).limit(bindparam("p_limit")).subquery()))


def _weight(column: Any) -> Any:
    """About how many bytes it has at most, told without reading it."""
    factor = case((func.pg_column_compression(column).is_(None), 1), else_=_COMPRESSION)
    return func.coalesce(cast(func.pg_column_size(column), BigInteger) * factor, 0)


def _fitting(rows: Subquery) -> Select:
    """The rows, those that are too much for one page without what is large in them. The first one always fits."""
    order = [rows.c.created_at.desc(), rows.c.id.desc()]
    total = func.sum(rows.c.weight).over(order_by=order, rows=(None, 0))
    fits = or_(total <= _PAGE_BYTES, total == rows.c.weight)
    shown = (case((fits, rows.c[c.name])).label(c.name) if c.name in _LARGE else rows.c[c.name] for c in _LISTED)
    return select(*shown, fits.label("fits")).order_by(*order)


async def list_page(
    tx: Transaction | Direct,
    account_id: str,
    limit: int,
    before: tuple | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    source: Literal["web"] | None = None,
) -> list[Any]:
    """Newest first, without logs; `before` is the (created_at, id) of the last one seen.

    From the first on that no longer `fits`, the page is full: they are for the next one.
    """
    moment, last = before or (None, None)
    limits = {"p_moment": moment, "p_created_after": created_after, "p_created_before": created_before}
    asked = frozenset(name for name, value in limits.items() if value is not None)
    parameters = {**limits, "p_account": account_id, "p_before": last, "p_limit": limit}
    return await tx.rows(_page(asked, source), parameters)


# --- the path ---------------------------------------------------------------------------------------------------------


_CREATED_WITH = (
    *("id", "account_id", "model", "version_id", "target", "hardware_sku", "source", "status", "input"),
    "secret_inputs",
    *("stream_kind", "webhook_url", "webhook_events", "deployment", "cache_key", "token_id", "tags", "held_nanos"),
)
# Without a deadline the interval is null, and so is the sum.
_DEADLINE = func.now() + func.make_interval(0, 0, 0, 0, 0, 0, cast(bindparam("p_deadline"), Double))
_INSERT = upsert(TABLE).values(deadline_at=_DEADLINE).on_conflict_do_nothing(index_elements=["id"]).returning(*TABLE.c)
_CREATE = Hot(_INSERT, _CREATED_WITH)
_CREATE_FUNDED = Hot(holds.funded(_INSERT), _CREATED_WITH)


async def create(tx: Transaction | Direct, request: Request) -> Row:
    """T1: the row, in `starting`; once committed it is queued, and the scheduler woken if nothing serves it.

    The same id again changes nothing, and returns the row as it is now. Raises `PaymentRequired` where its Account has
    less to spend than is to be held.
    """
    statement = _CREATE if request.hold_nanos is None else _CREATE_FUNDED
    with holds.refusals():
        row = await tx.run(statement, {**values_of(request), "p_deadline": request.deadline_seconds})
    if row is None:
        return await get(tx, request.account_id, request.id)
    tx.after_commit(queue.push, request.runnable.target, request.account_id, request.id)
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
        "stream_kind": output_kind(runnable.openapi_schema).stream_kind,
        "webhook_url": request.webhook_url,
        "webhook_events": request.webhook_events,
        "deployment": runnable.deployment,
        "cache_key": request.cache_key,
        "token_id": request.token_id,
        "tags": request.tags,
        "held_nanos": request.hold_nanos,
    }


_HOLDS_LEASE = exists().where(
    Instance.id == bindparam("p_instance"),
    Instance.status == InstanceStatus.READY.value,
    Node.id == Instance.node_id,
    Node.boot_id == bindparam("p_boot"),
    Node.lease_expires_at > func.now(),
)


def _of_instance(expression: Any) -> Any:
    return select(expression).where(Instance.id == bindparam("p_instance")).scalar_subquery()


# Of the time it waited, what its container's boot took. A container that was there already took none.
_WAITED_FOR_BOOT = func.greatest(
    0.0, func.extract("epoch", Instance.ready_at - func.greatest(Instance.created_at, TABLE.c.created_at))
)
_WAITED_FOR_SETUP = func.least(_WAITED_FOR_BOOT, func.coalesce(Instance.setup_seconds, 0.0))
# Where its Instance's time is billed, the run itself costs nothing.
_BILLS_TIME = func.coalesce(_of_instance(Instance.bills_time), False)
_PRICE_ID, _PRICE = prices.second_of(TABLE.c.hardware_sku, TABLE.c.account_id, func.now())
_UNIT_PRICES = prices.units_of(TABLE.c.model, TABLE.c.account_id, func.now())
_START = Hot(
    update(TABLE)
    .where(TABLE.c.id == bindparam("p_id"), TABLE.c.status == PredictionStatus.STARTING.value, _HOLDS_LEASE)
    .values(
        status=PredictionStatus.PROCESSING.value,
        started_at=func.clock_timestamp(),
        attempt=TABLE.c.attempt + 1,
        instance_id=bindparam("p_instance"),
        node_boot_id=bindparam("p_boot"),
        price_id=_PRICE_ID,
        price_nanos_per_second=case((_BILLS_TIME, 0), else_=_PRICE),
        unit_prices=case((_BILLS_TIME, null()), else_=_UNIT_PRICES),
        boot_seconds=_of_instance(_WAITED_FOR_BOOT - _WAITED_FOR_SETUP),
        setup_seconds=_of_instance(_WAITED_FOR_SETUP),
        queue_reason=None,
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


async def orphans(tx: Transaction, limit: int) -> list[Row]:
    """Running predictions whose holder is gone: the life of its node is over, or its Instance has ended."""
    alive = exists().where(
        Instance.id == Prediction.instance_id,
        Instance.status.in_((InstanceStatus.READY, InstanceStatus.DRAINING)),
        Node.id == Instance.node_id,
        Node.boot_id == Prediction.node_boot_id,
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
    row = await tx.first(select(Prediction).where(held(prediction_id, attempt)).with_for_update())
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
        .where(held(row.id, row.attempt))
        .values(status=PredictionStatus.STARTING, started_at=None, instance_id=None, node_boot_id=None)
    )
    tx.after_commit(queue.push, row.target, row.account_id, row.id)
