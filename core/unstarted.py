"""Ends predictions before they start: canceled, refused or expired. Nothing was measured, so nothing is charged.

Knows nothing of how they run: of what runs already, it only asks the runner to stop. Each verb takes at most `AT_ONCE`
in one transaction, the oldest; where there are more it is called again.
"""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import ColumnElement, Row, Update, func, select, update

from core import endings, queue
from core.database import Transaction
from core.endings import TABLE
from core.lifecycle import LIVE_PREDICTION, FailureCode, PredictionStatus
from core.redis import SCHEDULER_BELL, node_channel, ring
from core.tables import Instance

#: A tenth of a second's work for the database: nobody else's wait for it is noticed.
AT_ONCE = 1000

_WAITS, _RUNS = (TABLE.c.status == status.value for status in LIVE_PREDICTION)
_IS_LIVE = TABLE.c.completed_at.is_(None)
_CANCELED = {"status": PredictionStatus.CANCELED.value, "cancel_requested_at": func.now()}


async def cancel_target(tx: Transaction, target: str) -> int:
    """Ends what waits for a target and asks what runs there: its Deployment is disabled, or gone."""
    count = await cancel(tx, _IS_LIVE, TABLE.c.target == target, TABLE.c.cancel_requested_at.is_(None))
    _come_again(tx, count)
    return count


async def cancel(tx: Transaction, *chosen: ColumnElement[bool]) -> int:
    """Ends what waits at once and asks the runner of what runs; what has ended stays as it is."""
    # Locked, or one might go back to its queue between the two questions below and hear neither.
    ids = await _lock(tx, *chosen)
    these = TABLE.c.id.in_(ids)
    await _end(tx, update(TABLE).where(these, _WAITS).values(_CANCELED))
    asked = (
        update(TABLE)
        .where(these, _RUNS, Instance.id == TABLE.c.instance_id)
        .values(cancel_requested_at=func.coalesce(TABLE.c.cancel_requested_at, func.now()))
        .returning(TABLE.c.id, Instance.node_id)
    )
    if rows := await tx.all(asked):
        tx.after_commit(_ask_nodes, rows)
    return len(ids)


async def refuse(tx: Transaction, target: str, code: FailureCode, error: str, logs: str = "") -> int:
    """Fails what waits for a target which cannot run: its Version could not be prepared, or set up."""
    ids = await _lock(tx, _IS_LIVE, TABLE.c.target == target, _WAITS)
    failed = {"status": PredictionStatus.FAILED.value, "failure_code": code.value, "error": error, "logs": logs}
    await _end(tx, update(TABLE).where(TABLE.c.id.in_(ids), _WAITS).values(failed))
    _come_again(tx, len(ids))
    return len(ids)


async def expire(tx: Transaction) -> int:
    """Aborts what waited past its deadline."""
    ids = await _lock(tx, _IS_LIVE, _WAITS, TABLE.c.deadline_at < func.now(), order=TABLE.c.deadline_at)
    aborted = {"status": PredictionStatus.ABORTED.value}
    await _end(tx, update(TABLE).where(TABLE.c.id.in_(ids), _WAITS).values(aborted))
    return len(ids)


async def _lock(tx: Transaction, *chosen: ColumnElement[bool], order: Any = TABLE.c.created_at) -> list[str]:
    # In the order of an index, which is that of their queues too: there, whatever is removed is found at once.
    oldest = select(TABLE.c.id).where(*chosen).order_by(order).limit(AT_ONCE)
    return [row.id for row in await tx.all(oldest.with_for_update())]


async def _end(tx: Transaction, moved: Update) -> None:
    rows = await tx.all(endings.ending(moved))
    if rows:
        tx.after_commit(queue.remove_many, [(row.target, row.account_id, row.id) for row in rows])
        endings.announce(tx, *rows)


def _come_again(tx: Transaction, count: int) -> None:
    """Where there may be more, the scheduler is not to wait for its next pass."""
    if count == AT_ONCE:
        tx.after_commit(ring, SCHEDULER_BELL)


async def _ask_nodes(redis: Redis, rows: Sequence[Row]) -> None:
    pipeline = redis.pipeline(transaction=False)
    for row in rows:
        pipeline.publish(node_channel(row.node_id), f"cancel {row.id}")
    await pipeline.execute()
