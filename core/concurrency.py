"""How many predictions of an Account may run at once. Its row says; Redis holds what the queue asks at each take: the
limits, and of each account that has one what was taken and has not ended.

A take is counted in the very script that takes, and its end discounted when it is announced, so that no interleaving
passes a limit. What falls between, or is lost with Redis, `refresh` puts right from rows.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from sqlalchemy import ColumnElement, func, select

from core import queue
from core.database import Transaction, one_of
from core.lifecycle import PredictionStatus
from core.redis import LIMITED_ACCOUNTS, LIMITS, blocked_key, running_key
from core.tables import Account, Prediction

#: What was taken so long ago, and runs by no row, was never started: whoever took it is gone.
GRACE_SECONDS = 10.0

_EVERYBODY_ELSE = "*"
_WAITS = Prediction.status == PredictionStatus.STARTING.value
_RUNS = Prediction.status == PredictionStatus.PROCESSING.value
_IS_LIVE = Prediction.completed_at.is_(None)


def reason(limit: int) -> str:
    """What those are told who are kept back by it."""
    if limit == 1:
        return "You run 1 prediction, the most your account may at once; this one starts when that one ends."
    return f"You run {limit} predictions at once, the most your account may; this one starts when one of them ends."


# --- rows -------------------------------------------------------------------------------------------------------------


async def refresh(tx: Transaction, redis: Redis, default: int) -> None:
    """Makes what the queue knows of limits that which the rows say. `default` holds for accounts without their own."""
    rows = await tx.all(select(Account.id, Account.max_running).where(Account.max_running.is_not(None)))
    own = {row.id: row.max_running for row in rows}
    await set_limits(redis, default, own)
    limited = [id for id, limit in own.items() if limit]
    unlimited = [id for id, limit in own.items() if not limit]
    whose = ~one_of(Prediction.account_id, unlimited) if default else one_of(Prediction.account_id, limited)
    by_rows = await _running(tx, whose) if default or limited else set()
    counted = await running(redis)
    missing = by_rows - counted.keys()
    if missing:
        # Looked at again, because most of them have ended since.
        await count(redis, await _running(tx, one_of(Prediction.id, [id for _, id in missing])))
    await release(redis, [key for key, seconds in counted.items() if key not in by_rows and seconds > GRACE_SECONDS])
    await _wake_where_there_is_room(redis, lambda account_id: own.get(account_id, default))


async def _wake_where_there_is_room(redis: Redis, limit_of: Callable[[str], int]) -> None:
    """Whoever ended the last one may have died before it could say so, and limits may have been lifted."""
    accounts = list(await redis.smembers(LIMITED_ACCOUNTS))
    pipeline = redis.pipeline(transaction=False)
    for account_id in accounts:
        pipeline.exists(blocked_key(account_id))
        pipeline.zcard(running_key(account_id))
    replies = iter(await pipeline.execute())
    for account_id, is_blocked, count in zip(accounts, replies, replies, strict=True):
        limit = limit_of(account_id)
        if is_blocked and (not limit or count < limit):
            await queue.wake(redis, [account_id])


async def _running(tx: Transaction, *conditions: ColumnElement[bool]) -> set[tuple[str, str]]:
    rows = await tx.all(select(Prediction.account_id, Prediction.id).where(_IS_LIVE, _RUNS, *conditions))
    return {(row.account_id, row.id) for row in rows}


async def limit(tx: Transaction, account_id: str, max_running: int | None) -> None:
    """Holds from the next take on; None: what holds for everybody. The row is the caller's to write."""
    ids = [id for _, id in await _running(tx, Prediction.account_id == account_id)] if max_running != 0 else []
    tx.after_commit(set_limit, account_id, max_running, ids)


async def kept_back(tx: Transaction, default: int) -> dict[str, int]:
    """By target, how many wait there only because their account runs as many as it may: more Instances help none of
    them."""
    most = func.coalesce(Account.max_running, default)
    rows = await tx.all(
        select(
            Prediction.account_id,
            Prediction.target,
            most.label("most"),
            func.count().filter(_WAITS).label("waiting"),
            func.count().filter(_RUNS).label("running"),
        )
        .join(Account, Account.id == Prediction.account_id)
        .where(_IS_LIVE, most > 0)
        .group_by(Prediction.account_id, Prediction.target, most)
    )
    room: dict[str, int] = {}
    for row in rows:
        room[row.account_id] = room.get(row.account_id, row.most) - row.running
    found: dict[str, int] = defaultdict(int)
    for row in rows:
        found[row.target] += max(0, row.waiting - max(0, room[row.account_id]))
    return {target: number for target, number in found.items() if number}


# --- what the queue asks ----------------------------------------------------------------------------------------------


async def set_limits(redis: Redis, default: int, limits: Mapping[str, int]) -> None:
    """All of them in place of those before: what accounts have of their own, and what holds for the others. 0: none."""
    pipeline = redis.pipeline()
    pipeline.delete(LIMITS)
    if default or any(limits.values()):
        pipeline.hset(LIMITS, mapping={**limits, _EVERYBODY_ELSE: default})
    await pipeline.execute()


async def set_limit(redis: Redis, account_id: str, limit: int | None, running: Sequence[str]) -> None:
    """Of one account, which runs these; None: what holds for the others."""
    if limit is None:
        await redis.hdel(LIMITS, account_id)
    else:
        await redis.hset(LIMITS, account_id, limit)
    await count(redis, [(account_id, id) for id in running])
    await queue.wake(redis, [account_id])


async def running(redis: Redis) -> dict[tuple[str, str], float]:
    """What counts: (account id, prediction id), and how many seconds ago it was taken."""
    accounts = list(await redis.smembers(LIMITED_ACCOUNTS))
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    for account_id in accounts:
        pipeline.zrange(running_key(account_id), 0, -1, withscores=True)
    (seconds, micros), *found = await pipeline.execute()
    now = seconds + micros / 1e6
    return {
        (account_id, prediction_id): now - taken_ms / 1000
        for account_id, entries in zip(accounts, found, strict=True)
        for prediction_id, taken_ms in entries
    }


async def count(redis: Redis, started: Iterable[tuple[str, str]]) -> None:
    """Of each (account id, prediction id) a row says that it runs; nobody knows when it was taken."""
    pipeline = redis.pipeline(transaction=False)
    for account_id, prediction_id in started:
        pipeline.zadd(running_key(account_id), {prediction_id: 0}, nx=True)
        pipeline.sadd(LIMITED_ACCOUNTS, account_id)
    await pipeline.execute()


def discount(pipeline: Pipeline, account_id: str, prediction_id: str) -> None:
    """It runs no more. If the reply says that it was counted, whoever waits for its account is to be woken."""
    pipeline.zrem(running_key(account_id), prediction_id)


async def release(redis: Redis, ended: Sequence[tuple[str, str]]) -> None:
    """Of each (account id, prediction id): it runs no more."""
    pipeline = redis.pipeline(transaction=False)
    for account_id, prediction_id in ended:
        discount(pipeline, account_id, prediction_id)
    counted = await pipeline.execute()
    await queue.wake(redis, {account_id for (account_id, _), one in zip(ended, counted, strict=True) if one})
