"""How predictions end: one statement that moves the status and writes all that hangs on it, or nothing.

Compiled once. A single statement is its own transaction, so ending a prediction costs one round trip to Postgres.
"""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import CTE, ColumnElement, Select, Update, and_, bindparam, case, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import JSONB

from core import concurrency, queue, streams, webhooks
from core.database import Direct, Doorbells, Hot, Transaction
from core.lifecycle import PredictionStatus, WebhookEvent
from core.money import ledger, postings
from core.redis import DELIVERY_BELL, FINISHED_CHANNEL, ring
from core.tables import Prediction
from core.usage import metering

TABLE = Prediction.__table__


def held(prediction_id: Any, attempt: Any) -> ColumnElement[bool]:
    """The guard of every write that belongs to a run: terminal is sticky, and an old attempt is nobody's."""
    return and_(
        TABLE.c.id == prediction_id,
        TABLE.c.status == PredictionStatus.PROCESSING.value,
        TABLE.c.attempt == attempt,
    )


def _input_without_secrets() -> ColumnElement:
    """Nobody needs them after the end, nor was ever shown them: their names stay, their values do not."""
    pair = func.jsonb_each(TABLE.c.input).table_valued("key", "value").alias("pair")
    is_secret = pair.c.key == func.any(TABLE.c.secret_inputs)
    kept = func.jsonb_object_agg(pair.c.key, case((is_secret, literal_column("'null'::jsonb")), else_=pair.c.value))
    # Where there are none, the value as it is, so that a large one is not written again.
    return case(
        (TABLE.c.secret_inputs.is_(None), TABLE.c.input),
        else_=func.coalesce(select(kept).scalar_subquery(), TABLE.c.input),
    )


_ENDED = {"completed_at": func.clock_timestamp(), "queue_reason": None, "input": _input_without_secrets()}


def ending(moved: Update) -> Select:
    """`moved` brings rows to a terminal status; with it, the webhooks they are owed and the money held for them."""
    ended = moved.values(_ENDED).returning(*TABLE.c).cte("ended")
    return _told(ended, postings.releases(ended).cte("released"))


def _measured_ending(moved: Update) -> Select:
    """The same with what it used, its charge, and what of that exceeds its hold."""
    ended = moved.values(_ENDED).returning(*TABLE.c).cte("ended")
    micros, nanos = TABLE.c.micros.type, metering.TABLE.c.amount_nanos.type
    usage = metering.measured(
        ended,
        bindparam("p_micros", type_=micros),
        bindparam("p_units", type_=JSONB(none_as_null=True)),
        bindparam("p_units_nanos", type_=nanos),
    ).returning(*_USAGE_COLUMNS)
    usage = usage.cte("usage")
    charged = postings.charged(ended, usage).cte("charged")
    return _told(ended, usage, ledger.charge(charged).cte("moved"), postings.settles(ended, charged).cte("posted"))


def _told(ended: CTE, *written: CTE) -> Select:
    return select(*(ended.c[name] for name in _ANNOUNCED)).add_cte(webhooks.owed(ended).cte("owed"), *written)


#: What is left to do needs no input, output or logs, which may be large.
_ANNOUNCED = ("id", "account_id", "target", "status", "error", "stream_kind", "webhook_url", "webhook_events")
_USAGE_COLUMNS = [metering.TABLE.c[name] for name in ("id", "account_id", "amount_nanos")]

_FINISH = Hot(
    _measured_ending(
        update(TABLE)
        .where(held(bindparam("p_id"), bindparam("p_attempt")))
        .values(
            status=bindparam("p_status"),
            output=bindparam("p_output", type_=JSONB(none_as_null=True)),
            error=bindparam("p_error"),
            failure_code=bindparam("p_failure_code"),
            logs=bindparam("p_logs"),
            metrics=bindparam("p_metrics", type_=JSONB),
            micros=bindparam("p_micros"),
        )
    )
)


async def finish(tx: Transaction | Direct, parameters: dict[str, Any]) -> Any:
    """What `announce` needs; None: it was not this attempt's any more."""
    row = await tx.run(_FINISH, parameters)
    if row is not None:
        announce(tx, row)
    return row


def announce(tx: Doorbells, *rows: Any) -> None:
    """Once committed: wakes whoever waits or listens, whoever may take the next one, and the sender of what is owed."""
    tx.after_commit(_tell, rows)
    if any(webhooks.wants(row, WebhookEvent.COMPLETED) for row in rows):
        tx.after_commit(ring, DELIVERY_BELL)


async def _tell(redis: Redis, rows: Sequence[Any]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for row in rows:
        if row.stream_kind:
            streams.end(pipeline, row.id, row.status, row.error)
        pipeline.publish(FINISHED_CHANNEL, row.id)
    # In one breath with the rest: nearly always nobody has a limit, and there is nothing more to do.
    for row in rows:
        concurrency.discount(pipeline, row.account_id, row.id)
    counted = (await pipeline.execute())[-len(rows) :]
    await queue.wake(redis, {row.account_id for row, was_counted in zip(rows, counted, strict=True) if was_counted})
