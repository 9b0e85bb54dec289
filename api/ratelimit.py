"""How often an account may call: token buckets in Redis, shared by all api processes, and the headers that tell.

A bucket holds a minute's calls and refills steadily, so short bursts pass. Without Redis nobody is refused.
While a bucket is known to be half full, each process counts for a moment by itself, and tells Redis how many it were.
"""

import math
from dataclasses import dataclass

from cachetools import LRUCache
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import Bucket
from core.clock import monotonic
from core.errors import TooManyRequests
from core.log import get_logger
from core.redis import rate_key
from core.settings import Settings

log = get_logger()

_TAKE = """
local capacity, per_second = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or capacity, tonumber(bucket[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - at) * per_second)
tokens = math.max(0, tokens - tonumber(ARGV[3]))
local allowed = tokens >= 1
if allowed then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], math.ceil((capacity - tokens) / per_second) + 1)
return {allowed and 1 or 0, string.format('%.6f', tokens)}
"""
_take = AsyncScript(None, _TAKE.encode())

# Asking Redis takes a quarter of what a GET does. So far from the limit, ten times a second will do.
_TELL_SECONDS = 0.1
_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Standing:
    """`remaining`: calls left now. `reset`: seconds until the bucket is full again."""

    remaining: int
    reset: int


@dataclass(slots=True)
class _Known:
    """A bucket as Redis had it at that moment, and the calls since that Redis has not heard of."""

    tokens: float
    at: float
    untold: int = 0


class Limits:
    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._redis = redis
        self._per_minute = {
            Bucket.CREATES: settings.rate_creates_per_minute,
            Bucket.CALLS: settings.rate_calls_per_minute,
        }
        self._known: LRUCache[tuple[str, Bucket], _Known] = LRUCache(_KNOWN)

    async def take(self, account_id: str, bucket: Bucket) -> Standing | None:
        """Counts one call. None: there is no limit. Raises `TooManyRequests`."""
        capacity = self._per_minute[bucket]
        if not capacity:
            return None
        per_second, now = capacity / 60, monotonic()
        known = self._known.setdefault((account_id, bucket), _Known(0.0, now))
        if now - known.at < _TELL_SECONDS and known.tokens - known.untold > capacity / 2:
            known.untold += 1
            return _standing(known.tokens - known.untold, capacity)
        known.at, untold, known.untold = now, known.untold, 0
        key = rate_key(account_id, bucket.name.lower())
        try:
            allowed, left = await _take([key], [capacity, per_second, untold], client=self._redis)
        except (RedisError, OSError) as error:
            log.warning("rate not limited", error=str(error))
            return None
        tokens = known.tokens = float(left)
        standing = _standing(tokens, capacity)
        if not allowed:
            raise Throttled(bucket.value, math.ceil((1 - tokens) / per_second), standing)
        return standing


def _standing(tokens: float, capacity: int) -> Standing:
    return Standing(int(tokens), math.ceil((capacity - tokens) * 60 / capacity))


class Throttled(TooManyRequests):
    """Says how the bucket stands as well."""

    def __init__(self, what: str, retry_after: int, standing: Standing) -> None:
        super().__init__(what, retry_after)
        self.standing = standing

    @property
    def headers(self) -> dict[str, str]:
        return {**super().headers, **_headers(self.standing)}


class RateLimitHeaders:
    """Puts on every answer how its caller's bucket stands; errors, which others render, included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start" and (standing := scope.get("millrace.ratelimit")):
                MutableHeaders(scope=message).update(_headers(standing))
            await send(message)

        await self._app(scope, receive, telling if scope["type"] == "http" else send)


def _headers(standing: Standing) -> dict[str, str]:
    return {"ratelimit-remaining": str(standing.remaining), "ratelimit-reset": str(standing.reset)}
