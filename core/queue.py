"""The fair queue of waiting predictions: per target two lanes, and in each a list per account and a ring of accounts.

    queue:{target}:ring       list of accounts, each once, in the order in which they are served
    queue:{target}:<account>  that account's waiting prediction ids, oldest first
    queue:{target}:low:…      the same again for what has low priority; `since`: how many normal ones went before it
    queue:{target}:members    every waiting id, so that pushing twice is harmless
    queue:{target}:bell       holds a token while anything can be taken: takers block on it, nobody polls
    queue:{target}:arrivals   when the latest were pushed, newest first, in milliseconds of Redis's own clock
    blocked:<account>         rings that it was taken out of, because it runs as many as it may (core/concurrency.py)

Taking turns the ring, so an account with 10,000 waiting predictions delays another's single one by one turn. What is
low goes when nothing normal can, and once in `LOW_EVERY` takes, or a batch might wait for ever. An account at its limit
is out of the ring when its turn comes, and first in it as soon as it may run one more. Push and take cost O(1) whatever
and whoever waits; remove costs O(one account's list). Rows are the truth: this can be lost.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from core.redis import BLOCK_SECONDS, SCHEDULER_BELL


class Priority(StrEnum):
    NORMAL = "normal"
    LOW = "low"


_PUSH = """
local base, lane, account, id, bell_cap = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local kept, kept_seconds = tonumber(ARGV[5]), ARGV[6]
if redis.call('SADD', base .. ':members', id) == 0 then return 0 end
if kept > 0 then
  local time = redis.call('TIME')
  local count = redis.call('LPUSH', base .. ':arrivals', time[1] * 1000 + math.floor(time[2] / 1000))
  -- Not each time: together they would take as long as all the rest.
  if count % 8 == 1 then redis.call('EXPIRE', base .. ':arrivals', kept_seconds) end
  if count >= 2 * kept then redis.call('LTRIM', base .. ':arrivals', 0, kept - 1) end
end
local push = ARGV[7] == '1' and 'LPUSH' or 'RPUSH'
if redis.call(push, base .. lane .. account, id) == 1 then redis.call(push, base .. lane .. 'ring', account) end
if redis.call('LLEN', base .. ':bell') < bell_cap then redis.call('LPUSH', base .. ':bell', 1) end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('LPUSH', KEYS[3], 1)
  redis.call('LTRIM', KEYS[3], 0, 0)
end
return 1
"""

# Whether the account may run one more; if so, that one runs from here on.
_MAY_RUN = """
local has_limits = redis.call('EXISTS', 'limits') == 1
local function limit_of(account)
  return tonumber(redis.call('HGET', 'limits', account) or redis.call('HGET', 'limits', '*') or 0)
end
local function may_run(lane, account, id)
  local limit, running = limit_of(account), 'running:' .. account
  if limit == 0 then return true end
  -- Queued again while its start was under way, it counts once.
  if not redis.call('ZSCORE', running, id) and redis.call('ZCARD', running) >= limit then
    redis.call('SADD', 'blocked:' .. account, lane)
    return false
  end
  local time = redis.call('TIME')
  redis.call('ZADD', running, time[1] * 1000 + math.floor(time[2] / 1000), id)
  redis.call('SADD', 'running', account)
  return true
end
"""

_TAKE = (
    _MAY_RUN
    + """
local base, wanted, low_every = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local normal, low = base .. ':', base .. ':low:'
local taken, blocked = {}, 0

local function next_of(lane)
  -- Redis serves nobody else meanwhile. Whoever is left rings, and the next take goes on.
  while blocked < 100 do
    local account = redis.call('LPOP', lane .. 'ring')
    if not account then return nil end
    local id = redis.call('LPOP', lane .. account)
    if id and has_limits and not may_run(lane, account, id) then
      redis.call('LPUSH', lane .. account, id)
      blocked = blocked + 1
    elseif id then
      redis.call('SREM', base .. ':members', id)
      if redis.call('EXISTS', lane .. account) == 1 then redis.call('RPUSH', lane .. 'ring', account) end
      return id
    end
  end
end

local low_waits = redis.call('EXISTS', low .. 'ring') == 1
local since = low_waits and tonumber(redis.call('GET', low .. 'since') or 0) or 0
while #taken < wanted do
  local id = low_waits and since >= low_every - 1 and next_of(low)
  if id then
    since = 0
  else
    id = next_of(normal)
    since = id and since + 1 or 0
    id = id or next_of(low)
  end
  if not id then break end
  taken[#taken + 1] = id
end

if redis.call('EXISTS', normal .. 'ring', low .. 'ring') == 0 then
  redis.call('DEL', base .. ':bell')
elseif redis.call('EXISTS', base .. ':bell') == 0 then
  redis.call('LPUSH', base .. ':bell', 1)
end
if low_waits then
  if redis.call('EXISTS', low .. 'ring') == 1 then
    redis.call('SET', low .. 'since', since)
  else
    redis.call('DEL', low .. 'since')
  end
end
return taken
"""
)

_REMOVE = """
local base, account, id = KEYS[1], ARGV[1], ARGV[2]
if redis.call('SREM', base .. ':members', id) == 0 then return 0 end
for _, lane in ipairs({base .. ':', base .. ':low:'}) do
  if redis.call('LREM', lane .. account, 1, id) == 1 and redis.call('EXISTS', lane .. account) == 0 then
    redis.call('LREM', lane .. 'ring', 1, account)
    redis.call('SREM', 'blocked:' .. account, lane)
  end
end
if redis.call('EXISTS', base .. ':low:ring') == 0 then redis.call('DEL', base .. ':low:since') end
return 1
"""

# How many are taken before this one, if no run ends: its own account's earlier ones, and of each other account as many
# turns as come before its own, and of the other lane what goes in between. O(accounts that wait), and at most so many
# of its own account's list. With it the limit that keeps it back, or 0.
_STANDING = """
local base, account, id, searched, low_every = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local normal, low = base .. ':', base .. ':low:'
if redis.call('SISMEMBER', base .. ':members', id) == 0 then return {-1, 0} end
local has_limits = redis.call('EXISTS', 'limits') == 1

local function limit_of(of)
  return has_limits and tonumber(redis.call('HGET', 'limits', of) or redis.call('HGET', 'limits', '*') or 0) or 0
end

-- How many of an account's may still be taken from a lane.
local function takeable(lane, of)
  local waiting, limit = redis.call('LLEN', lane .. of), limit_of(of)
  if limit == 0 then return waiting end
  local room = limit - redis.call('ZCARD', 'running:' .. of)
  if lane == low then room = room - redis.call('LLEN', normal .. of) end
  return math.max(0, math.min(waiting, room))
end

local function everybody(lane)
  local sum = 0
  for _, other in ipairs(redis.call('LRANGE', lane .. 'ring', 0, -1)) do sum = sum + takeable(lane, other) end
  return sum
end

local lane, earlier = normal, redis.call('LPOS', normal .. account, id, 'MAXLEN', searched)
if not earlier then
  earlier = redis.call('LPOS', low .. account, id, 'MAXLEN', searched)
  if earlier then lane = low end
end
local is_kept_back = limit_of(account) > 0 and (earlier or tonumber(searched)) >= takeable(lane, account)
local kept_back_by = is_kept_back and limit_of(account) or 0
if not earlier then return {-1, kept_back_by} end

-- Out of the ring, it comes back as the first.
local ahead, is_before = earlier, redis.call('SISMEMBER', 'blocked:' .. account, lane) == 0
for _, other in ipairs(redis.call('LRANGE', lane .. 'ring', 0, -1)) do
  if other == account then
    is_before = false
  else
    ahead = ahead + math.min(takeable(lane, other), is_before and earlier + 1 or earlier)
  end
end
local since = tonumber(redis.call('GET', low .. 'since') or 0)
if lane == normal then
  return {ahead + math.min(everybody(low), math.floor((since + ahead) / (low_every - 1))), kept_back_by}
end
return {ahead + math.min(everybody(normal), math.max(0, (ahead + 1) * (low_every - 1) - since)), kept_back_by}
"""

# Where something waits: wakes a taker, and the scheduler if there is none.
_RING = """
local function ring(target, bell_cap, scheduler_bell)
  local base = 'queue:{' .. target .. '}'
  if redis.call('EXISTS', base .. ':members') == 0 then return end
  if redis.call('LLEN', base .. ':bell') < bell_cap then redis.call('LPUSH', base .. ':bell', 1) end
  if redis.call('EXISTS', 'serving:' .. target) == 0 then
    redis.call('LPUSH', scheduler_bell, 1)
    redis.call('LTRIM', scheduler_bell, 0, 0)
  end
end
"""

_WAKE = (
    _RING
    + """
local account, bell_cap = ARGV[1], tonumber(ARGV[2])
for _, lane in ipairs(redis.call('SMEMBERS', 'blocked:' .. account)) do
  redis.call('LPUSH', lane .. 'ring', account)
  ring(lane:match('^queue:{(.*)}:'), bell_cap, KEYS[1])
end
redis.call('DEL', 'blocked:' .. account)
if redis.call('EXISTS', 'running:' .. account) == 0 then redis.call('SREM', 'running', account) end
"""
)

_WITHDRAW = (
    _RING
    + """
redis.call('DEL', 'serving:' .. ARGV[1])
ring(ARGV[1], tonumber(ARGV[2]), KEYS[1])
"""
)

# Enough tokens to wake every idle Instance of a target at once, few enough never to matter.
_BELL_CAP = 64
#: While both wait, so many turns have one low one among them: a twentieth of the slots keeps every batch moving.
LOW_EVERY = 20
#: Enough arrivals for a rhythm, and a day for those that come by the hour.
ARRIVALS = 32
_ARRIVALS_SECONDS = 24 * 3600
#: Redis serves nobody else while it searches: 10,000 take it less than a millisecond.
SEARCHED = 10_000
SERVING_SECONDS = 15

# Bytes, because a script without a client of its own has no encoder yet.
_push, _take, _remove, _standing, _wake, _withdraw = (
    AsyncScript(None, text.encode()) for text in (_PUSH, _TAKE, _REMOVE, _STANDING, _WAKE, _WITHDRAW)
)


def _base(target: str) -> str:
    return f"queue:{{{target}}}"


def _serving(target: str) -> str:
    return f"serving:{target}"


def _lane(priority: str) -> str:
    return ":low:" if priority == Priority.LOW else ":"


async def push(redis: Redis, target: str, account_id: str, prediction_id: str, priority: str = Priority.NORMAL) -> None:
    """Queues it once, rings, and wakes the scheduler if no Instance takes from this target."""
    keys = [_base(target), _serving(target), SCHEDULER_BELL]
    entry = [_lane(priority), account_id, prediction_id]
    await _push(keys, [*entry, _BELL_CAP, ARRIVALS, _ARRIVALS_SECONDS, 0], client=redis)


async def put_back(redis: Redis, target: str, account_id: str, prediction_id: str, priority: str) -> None:
    """As `push`, but before all others of its account: it has had its turn."""
    keys = [_base(target), _serving(target), SCHEDULER_BELL]
    await _push(keys, [_lane(priority), account_id, prediction_id, _BELL_CAP, 0, 0, 1], client=redis)


async def push_many(redis: Redis, waiting: Sequence[tuple[str, str, str, str]]) -> int:
    """Pushes (target, account id, prediction id, priority) in that order: again, so they have not just arrived. Returns
    how many were in no queue."""
    if not waiting:
        return 0
    pipeline = redis.pipeline(transaction=False)
    for target, account_id, prediction_id, priority in waiting:
        keys = [_base(target), _serving(target), SCHEDULER_BELL]
        await _push(keys, [_lane(priority), account_id, prediction_id, _BELL_CAP, 0, 0, 0], client=pipeline)
    return sum(await pipeline.execute())


async def take(redis: Redis, target: str, count: int) -> list[str]:
    """Up to `count` ids, one account after the other. Fewer: nothing else can be taken now, and the bell rings when
    something can."""
    return await _take([_base(target)], [count, LOW_EVERY], client=redis)


async def remove_many(redis: Redis, waiting: Sequence[tuple[str, str, str]]) -> None:
    """Removes each (target, account id, prediction id); what is in no queue may be among them."""
    pipeline = redis.pipeline(transaction=False)
    for target, account_id, prediction_id in waiting:
        await _remove([_base(target)], [account_id, prediction_id], client=pipeline)
    await pipeline.execute()


class Standing(NamedTuple):
    ahead: int | None
    """How many will be taken before it, if nobody else comes; None: it is in no queue, or `SEARCHED` or more of its own
    account's are before it."""
    limit: int | None = None
    """Its account's, where that keeps it back: its turn comes when one of those that run has ended."""


async def standing(redis: Redis, target: str, account_id: str, prediction_id: str) -> Standing:
    arguments = [account_id, prediction_id, SEARCHED, LOW_EVERY]
    ahead, limit = await _standing([_base(target)], arguments, client=redis)
    return Standing(None if ahead < 0 else ahead, limit or None)


async def wait(redis: Redis, target: str) -> None:
    """Returns when something may be waiting, or after `BLOCK_SECONDS` in case the bell was lost."""
    await redis.blpop([f"{_base(target)}:bell"], timeout=BLOCK_SECONDS)


async def depth(redis: Redis, target: str) -> int:
    return await redis.scard(f"{_base(target)}:members")


async def missing(redis: Redis, waiting: Iterable[tuple[str, str]]) -> set[str]:
    """Of each (target, prediction id), the ids of those that are in no queue."""
    ids: dict[str, list[str]] = {}
    for target, prediction_id in waiting:
        ids.setdefault(target, []).append(prediction_id)
    pipeline = redis.pipeline(transaction=False)
    for target, theirs in ids.items():
        pipeline.smismember(f"{_base(target)}:members", theirs)
    answers = zip(ids.values(), await pipeline.execute(), strict=True)
    return {id for theirs, queued in answers for id, is_queued in zip(theirs, queued, strict=True) if not is_queued}


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
    """The Instance stops taking; another one that still serves announces itself again within seconds. What waits is not
    left to them: it may have come while this one was on its way out."""
    await _withdraw([SCHEDULER_BELL], [target, _BELL_CAP], client=redis)


async def wake(redis: Redis, account_ids: Iterable[str]) -> None:
    """Puts these accounts back into the rings that they were taken out of, as the first, and wakes whoever takes there.
    One that may still run no more is out again at its turn."""
    for account_id in account_ids:
        await _wake([SCHEDULER_BELL], [account_id, _BELL_CAP], client=redis)
