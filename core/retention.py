"""What is not kept for ever: the data of predictions after a while, and all that a deleted Version leaves behind.

Each verb takes at most `limit` rows in one transaction and says how many it took; none are left once it says 0. One
with a `Walk` looks at so many and takes those of them that may go; it is through once its walk begins anew. Bytes are
not its business: it marks their rows, and whoever purges deletes what is marked (`core/files.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, select, tuple_, update

from core import files, fleet, idempotency, predictions, streams
from core.database import Transaction, seconds_from_now
from core.endings import TABLE
from core.lifecycle import LIVE_INSTANCE, DeliveryStatus
from core.tables import Instance, InstanceTime, ModelExample, Version, WebhookAttempt, WebhookDelivery

#: So long the row of an ended prediction, and of a deleted Version, stays at least: whoever waits for it, listens to it
#: or remembers it looks at it once more.
ROW_SECONDS = 60.0

_REMOVED = {"input": {}, "output": None, "logs": "", "secret_inputs": None, "cache_key": None, "data_removed": True}

_AGE = (TABLE.c.completed_at, TABLE.c.id)
_younger = TABLE.alias("younger")
# Its files are theirs as well.
_GAVE_ITS_RESULT = exists().where(_younger.c.cached_from == TABLE.c.id, ~_younger.c.data_removed)
_IS_EXAMPLE = exists().where(ModelExample.prediction_id == TABLE.c.id)
# What is owed is rendered from the row.
_OWES_WEBHOOK = exists().where(
    WebhookDelivery.prediction_id == TABLE.c.id, WebhookDelivery.status == DeliveryStatus.PENDING.value
)


@dataclass(slots=True)
class Walk:
    """How far a purge has come, from the oldest on. Kept by whoever purges, so that many that may not go yet are not
    looked at again by each pass before it comes to those that may."""

    last: tuple[datetime, str] | None = None
    """(completed_at, id); None: it begins anew."""


# --- after a while ----------------------------------------------------------------------------------------------------


async def remove_expired(tx: Transaction, source: str, seconds: float, limit: int, walk: Walk) -> int:
    """Removes the data of predictions of that source which ended so long ago, unless somebody still needs it."""
    due = and_(TABLE.c.source == source, TABLE.c.completed_at < seconds_from_now(-seconds), ~TABLE.c.data_removed)
    return await _remove_data(tx, due, and_(~_IS_EXAMPLE, ~_OWES_WEBHOOK, ~_GAVE_ITS_RESULT), limit, walk)


async def _lock(
    tx: Transaction, due: ColumnElement[bool], free: ColumnElement[bool], limit: int, walk: Walk
) -> list[str]:
    """The free ones of the next few. Those that another purge has in hand, or a request that takes a result, are left
    to the next walk.

    While they are locked nobody can come to need them. Who did so just before is only seen by the next statement, which
    therefore has to ask again.
    """
    # By an index alone, whoever is free: however many are kept back, so few are looked at.
    following = select(*_AGE).where(due, *(() if walk.last is None else (tuple_(*_AGE) > walk.last,)))
    rows = await tx.all(following.order_by(*_AGE).limit(limit))
    walk.last = (rows[-1].completed_at, rows[-1].id) if len(rows) == limit else None
    ids = [row.id for row in rows]
    freed = select(TABLE.c.id).where(TABLE.c.id.in_(ids), free).with_for_update(of=TABLE, skip_locked=True)
    return [row.id for row in await tx.all(freed)] if ids else []


async def _remove_data(
    tx: Transaction, due: ColumnElement[bool], free: ColumnElement[bool], limit: int, walk: Walk
) -> int:
    ids = await _lock(tx, due, free, limit, walk)
    if not ids:
        return 0
    removed = update(TABLE).where(TABLE.c.id.in_(ids), free).values(_REMOVED).returning(TABLE.c.id)
    return await _forget_traces(tx, [row.id for row in await tx.all(removed)])


async def _forget_traces(tx: Transaction, prediction_ids: Sequence[str]) -> int:
    """What tells of them elsewhere. A stream that is missed, were Redis away, ends by itself."""
    if prediction_ids:
        await files.expire_outputs(tx, prediction_ids)
        await idempotency.forget_answers(tx, list(prediction_ids))
        tx.after_commit(streams.reset, *prediction_ids)
    return len(prediction_ids)


# --- what a deleted Version leaves behind -----------------------------------------------------------------------------


async def deleted_versions(tx: Transaction, limit: int) -> Sequence[Row]:
    """Some of them, never the same few: one that cannot go yet keeps no other from going."""
    deleted = select(Version.id).where(Version.deleted_at.is_not(None))
    return await tx.all(deleted.order_by(func.random()).limit(limit))


async def _is_deleted(tx: Transaction, version_id: str) -> bool:
    """Holds it so: publishing the same artifact again brings it back, and what is made with it then is not to go."""
    deleted = select(Version.id).where(Version.id == version_id, Version.deleted_at.is_not(None))
    return await tx.first(deleted.with_for_update(read=True)) is not None


async def cancel_of_version(tx: Transaction, version_id: str, limit: int) -> int:
    """Cancels what waits, and asks once for what runs."""
    if not await _is_deleted(tx, version_id):
        return 0
    live = select(TABLE.c.id, TABLE.c.account_id).where(
        TABLE.c.completed_at.is_(None), TABLE.c.version_id == version_id, TABLE.c.cancel_requested_at.is_(None)
    )
    rows = await tx.all(live.limit(limit))
    for row in rows:
        await predictions.cancel(tx, row.account_id, row.id)
    return len(rows)


async def unwant_of_version(tx: Transaction, version_id: str, limit: int) -> int:
    """Its Instances drain and stop."""
    if not await _is_deleted(tx, version_id):
        return 0
    wanted = select(Instance.id).where(
        Instance.version_id == version_id, Instance.is_wanted, Instance.status.in_(LIVE_INSTANCE)
    )
    rows = await tx.all(wanted.limit(limit))
    for row in rows:
        await fleet.unwant(tx, row.id, "Its version was deleted.")
    return len(rows)


async def remove_of_version(tx: Transaction, version_id: str, limit: int, walk: Walk) -> int:
    """Removes the data of all that have ended, whatever the retention; a webhook still owed tells of it without."""
    if not await _is_deleted(tx, version_id):
        return 0
    due = and_(TABLE.c.version_id == version_id, TABLE.c.completed_at.is_not(None))
    return await _remove_data(tx, due, and_(~TABLE.c.data_removed, ~_GAVE_ITS_RESULT), limit, walk)


async def delete_predictions(tx: Transaction, version_id: str, limit: int, walk: Walk) -> int:
    """The rows, with what was delivered of them. What is still owed is delivered, or given up, first."""
    if not await _is_deleted(tx, version_id):
        return 0
    due = and_(TABLE.c.version_id == version_id, TABLE.c.completed_at < seconds_from_now(-ROW_SECONDS))
    free = and_(~_OWES_WEBHOOK, ~_GAVE_ITS_RESULT)
    ids = await _lock(tx, due, free, limit, walk)
    if not ids:
        return 0
    deliveries = select(WebhookDelivery.id).where(WebhookDelivery.prediction_id.in_(ids))
    # Locked, or a replay could make one owed again meanwhile.
    await tx.execute(deliveries.with_for_update())
    ids = [row.id for row in await tx.all(select(TABLE.c.id).where(TABLE.c.id.in_(ids), free))]
    deliveries = select(WebhookDelivery.id).where(WebhookDelivery.prediction_id.in_(ids))
    await tx.execute(delete(WebhookAttempt).where(WebhookAttempt.delivery_id.in_(deliveries)))
    await tx.execute(delete(WebhookDelivery).where(WebhookDelivery.prediction_id.in_(ids)))
    await tx.execute(delete(TABLE).where(TABLE.c.id.in_(ids)))
    return await _forget_traces(tx, ids)


async def delete_instances(tx: Transaction, version_id: str, limit: int) -> int:
    """Those that have ended, once all their time is charged and nothing is held for them."""
    if not await _is_deleted(tx, version_id):
        return 0
    ended = select(Instance.id).where(
        Instance.version_id == version_id,
        Instance.status.not_in(LIVE_INSTANCE),
        Instance.held_nanos == 0,
        ~exists().where(InstanceTime.instance_id == Instance.id),
    )
    return (await tx.execute(delete(Instance).where(Instance.id.in_(ended.limit(limit))))).rowcount


async def delete_version(tx: Transaction, version_id: str) -> int:
    """The row itself, once nothing refers to it. Usage and Releases only name it, and stay."""
    old = select(Version.id).where(Version.id == version_id, Version.deleted_at < seconds_from_now(-ROW_SECONDS))
    # Locked first: an Instance that is being assigned holds it, and is seen by the next statement.
    if await tx.first(old.with_for_update()) is None:
        return 0
    prediction = select(TABLE.c.id).where(TABLE.c.version_id == version_id).order_by(TABLE.c.completed_at).limit(1)
    instance = select(Instance.id).where(Instance.version_id == version_id).limit(1)
    if await tx.first(prediction) or await tx.first(instance):
        return 0
    return (await tx.execute(delete(Version).where(Version.id == version_id))).rowcount
