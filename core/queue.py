"""The fair queue of waiting predictions: per target, a list for each account and a ring of accounts that wait.

    queue:{target}:ring       list of accounts, each once, in the order in which they are served
    queue:{target}:<account>  that account's waiting prediction ids, oldest first
    queue:{target}:members    every waiting id, so that pushing twice is harmless
    queue:{target}:bell       holds a token while anything waits: takers block on it, nobody polls
    queue:{target}:arrivals   when the latest were pushed, newest first, in milliseconds of Redis's own clock

Taking turns the ring, so an account with 10,000 waiting predictions delays another's single one by one turn.
Push and take cost O(1) whatever waits; remove costs O(one account's list). Rows are the truth: this can be lost.
"""

from collections.abc import Sequence

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from core.redis import BLOCK_SECONDS, SCHEDULER_BELL

_PUSH = """
local base, account, id, bell_cap, kept, kept_seconds = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
if redis.call('SADD', base .. ':members', id) == 0 then return 0 end
if tonumber(kept) > 0 then
  local time = redis.call('TIME')
  redis.call('LPUSH', base .. ':arrivals', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('LTRIM', base .. ':arrivals', 0, kept - 1)
  redis.call('EXPIRE', base .. ':arrivals', kept_seconds)
end
if redis.call('RPUSH', base .. ':' .. account, id) == 1 then
  redis.call('RPUSH', base .. ':ring', account)
end
if redis.call('LLEN', base .. ':bell') < bell_cap then redis.call('LPUSH', base .. ':bell', 1) end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[3], 1)
  redis.call('LTRIM', KEYS[3], 0, 0)
end
return 1
"""

_TAKE = """
local base, wanted = KEYS[1], tonumber(ARGV[1])
local taken = {}
while #taken < wanted do
  local account = redis.call('LPOP', base .. ':ring')
  if not account then break end
  local id = redis.call('LPOP', base .. ':' .. account)
  if id then
    taken[#taken + 1] = id
    redis.call('SREM', base .. ':members', id)
    if redis.call('EXISTS', base .. ':' .. account) == 1 then redis.call('RPUSH', base .. ':ring', account) end
  end
end
if redis.call('EXISTS', base .. ':ring') == 0 then
  redis.call('DEL', base .. ':bell')
elseif redis.call('EXISTS', base .. ':bell') == 0 then
  redis.call('LPUSH', base .. ':bell', 1)
end
return taken
"""

_REMOVE = """
local base, account, id = KEYS[1], ARGV[1], ARGV[2]
if redis.call('SREM', base .. ':members', id) == 0 then return 0 end
redis.call('LREM', base .. ':' .. account, 1, id)
if redis.call('EXISTS', base .. ':' .. account) == 0 then redis.call('LREM', base .. ':ring', 1, account) end
return 1
"""

# How many are taken before this one: its own account's earlier ones, and of each other account as many turns as come
# before its own. O(accounts that wait), and at most so many of its own account's list.
_AHEAD = """
local base, account, id, searched = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local earlier = redis.call('LPOS', base .. ':' .. account, id, 'MAXLEN', searched)
if not earlier then return -1 end
local ahead, is_before = earlier, true
for _, other in ipairs(redis.call('LRANGE', base .. ':ring', 0, -1)) do
  if other == account then
    is_before = false
  else
    ahead = ahead + math.min(redis.call('LLEN', base .. ':' .. other), is_before and earlier + 1 or earlier)
  end
end
return ahead
"""

# Enough tokens to wake every idle Instance of a target at once, few enough never to matter.
_BELL_CAP = 64
#: Enough arrivals for a rhythm, and a day for those that come by the hour.
ARRIVALS = 32
_ARRIVALS_SECONDS = 24 * 3600
#: Redis serves nobody else while it searches: 10,000 take it less than a millisecond.
SEARCHED = 10_000
SERVING_SECONDS = 15

# Bytes, because a script without a client of its own has no encoder yet.
_push = AsyncScript(None, _PUSH.encode())
_take = AsyncScript(None, _TAKE.encode())
_remove = AsyncScript(None, _REMOVE.encode())
_ahead = AsyncScript(None, _AHEAD.encode())


def _base(target: str) -> str:
    return f"queue:{{{target}}}"


def _serving(target: str) -> str:
    return f"serving:{target}"


async def push(redis: Redis, target: str, account_id: str, prediction_id: str) -> None:
    """Queues it once, rings, and wakes the scheduler if no Instance takes from this target."""
    keys = [_base(target), _serving(target), SCHEDULER_BELL]
    await _push(keys, [account_id, prediction_id, _BELL_CAP, ARRIVALS, _ARRIVALS_SECONDS], client=redis)


async def push_many(redis: Redis, waiting: Sequence[tuple[str, str, str]]) -> int:
    """Pushes (target, account id, prediction id) in that order: again, so they have not just arrived. Returns how many
    were in no queue."""
    if not waiting:
        return 0
    pipeline = redis.pipeline(transaction=False)
    for target, account_id, prediction_id in waiting:
        keys = [_base(target), _serving(target), SCHEDULER_BELL]
        await _push(keys, [account_id, prediction_id, _BELL_CAP, 0, 0], client=pipeline)
    return sum(await pipeline.execute())


async def take(redis: Redis, target: str, count: int) -> list[str]:
    """Up to `count` ids, one account after the other."""
    return await _take([_base(target)], [count], client=redis)


async def remove_many(redis: Redis, waiting: Sequence[tuple[str, str, str]]) -> None:
    """Removes each (target, account id, prediction id); what is in no queue may be among them."""
    pipeline = redis.pipeline(transaction=False)
    for target, account_id, prediction_id in waiting:
        await _remove([_base(target)], [account_id, prediction_id], client=pipeline)
    await pipeline.execute()


async def ahead(redis: Redis, target: str, account_id: str, prediction_id: str) -> int | None:
    """How many will be taken before it, if nobody else comes; None: it is in no queue, or `SEARCHED` or more of its own
    account's are before it."""
    count = await _ahead([_base(target)], [account_id, prediction_id, SEARCHED], client=redis)
    return None if count < 0 else count


async def wait(redis: Redis, target: str) -> None:
    """Returns when something may be waiting, or after `BLOCK_SECONDS` in case the bell was lost."""
    await redis.blpop([f"{_base(target)}:bell"], timeout=BLOCK_SECONDS)


async def depth(redis: Redis, target: str) -> int:
    return await redis.scard(f"{_base(target)}:members")


async def missing(redis: Redis, target: str, prediction_ids: Sequence[str]) -> list[str]:
    """Those of them that are in no queue of this target."""
    if not prediction_ids:
        return []
    queued = await redis.smismember(f"{_base(target)}:members", list(prediction_ids))
    return [id for id, is_queued in zip(prediction_ids, queued, strict=True) if not is_queued]


async def arrivals(redis: Redis, targets: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """How long ago, in seconds, the latest predictions of each target came, newest first: at most `ARRIVALS`, of the
    last day. A hint, lost with Redis."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    for target in targets:
        pipeline.lrange(f"{_base(target)}:arrivals", 0, ARRIVALS - 1)
    (seconds, micros), *found = await pipeline.execute()
    now = seconds + micros / 1e6
    ages = (tuple(max(0.0, now - int(moment) / 1000) for moment in moments) for moments in found)
    return dict(zip(targets, ages, strict=True))


async def announce(redis: Redis, target: str) -> None:
    """Says that an Instance takes from this target, so that pushing need not wake the scheduler."""
    await redis.set(_serving(target), 1, ex=SERVING_SECONDS)


async def withdraw(redis: Redis, target: str) -> None:
    """The Instance stops taking; another one that still serves announces itself again within seconds."""
    await redis.delete(_serving(target))
