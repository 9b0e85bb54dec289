"""The doorbell: the Redis client, and every key and channel with its owner and lifetime.

    key                          owner        lifetime              holds
    queue:{target}:…             core.queue   while something waits ids of waiting predictions (see core/queue.py)
    blocked:<account>            core.queue   until one of it ends  rings that it was taken out of, being at its limit
    limits                       concurrency  while there are any   how many predictions an account may run at once
    running:<account>            concurrency  while it runs any     of an account with a limit: what was taken, and when
    running                      concurrency  while there are any   accounts that have such a key
    serving:{target}             node         15 s, renewed         set while an Instance takes from this target
    bell:scheduler               scheduler    until popped          wake up: something waits and nothing serves it
    bell:deliveries              webhooks     until popped          wake up: a delivery is due
    webhooks:passing             webhooks     until popped          start, output and logs events, sent once
    stream:<prediction>          node         1 h after the end     what a listener replays: output chunks and the end
    rate:<account>:<kind>        api          until full again      how many calls an account has left
    tries:<kind>:<digest>        api          15 min                how often an email or an address tried to log in
    unanswered:<digest>          api          15 s                  ids of equal posts whose clients were gone
    held:<digest>                api          90 s, renewed         how many equal posts of hasty clients wait
    books:proof                  api          until the next one    what the last proof from the pages found
    finished  (channel)          core         –                     ids of predictions that reached a terminal status
    node:<id> (channel)          node         –                     `converge`, or `cancel <prediction>`

Losing all of it loses milliseconds: each sweep rebuilds its part from rows.
"""

import asyncio
from collections.abc import Iterable

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from core.settings import Settings

FINISHED_CHANNEL = "finished"
SCHEDULER_BELL = "bell:scheduler"
DELIVERY_BELL = "bell:deliveries"
PASSING_WEBHOOKS = "webhooks:passing"
LAST_PROOF = "books:proof"
LIMITS = "limits"
LIMITED_ACCOUNTS = "running"

# Blocking reads wait at most this long, well inside the socket's timeout, so that a dead peer is noticed.
BLOCK_SECONDS = 5
_SOCKET_TIMEOUT = 15
_CONNECT_TIMEOUT = 2
# Every blocked reader (a stream listener, a dispatcher) holds one connection.
_POOL_CONNECTIONS = 2048


def stream_key(prediction_id: str) -> str:
    return f"stream:{prediction_id}"


def rate_key(account_id: str, kind: str) -> str:
    return f"rate:{account_id}:{kind}"


def running_key(account_id: str) -> str:
    return f"running:{account_id}"


def blocked_key(account_id: str) -> str:
    return f"blocked:{account_id}"


def login_tries_key(kind: str, digest: str) -> str:
    return f"tries:{kind}:{digest}"


def unanswered_key(digest: str) -> str:
    return f"unanswered:{digest}"


def held_key(digest: str) -> str:
    return f"held:{digest}"


def node_channel(node_id: str) -> str:
    return f"node:{node_id}"


class _Cancellable:
    """Redis-py sends inside `asyncio.wait_for`, which before Python 3.12 loses a cancel that arrives as it returns: one
    in two, measured, and the task that was told to stop goes on for ever. `asyncio.timeout` loses none."""

    socket_timeout: float | None

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health)  # type: ignore[misc]
        finally:
            self.socket_timeout = seconds


def open_redis(settings: Settings) -> Redis:
    pool = ConnectionPool.from_url(
        settings.redis_url,
        max_connections=_POOL_CONNECTIONS,
        decode_responses=True,
        socket_timeout=_SOCKET_TIMEOUT,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        retry=Retry(ConstantBackoff(0.05), retries=1),
    )
    # The URL decides between TCP, TLS and Unix sockets.
    pool.connection_class = type("Connection", (_Cancellable, pool.connection_class), {})
    return Redis(connection_pool=pool)


async def ring(redis: Redis, bell: str) -> None:
    """One waiting token is enough: the woken process looks at rows, not at the bell."""
    pipeline = redis.pipeline(transaction=False)
    pipeline.lpush(bell, 1)
    pipeline.ltrim(bell, 0, 0)
    await pipeline.execute()


async def publish(redis: Redis, channel: str, message: str) -> None:
    await redis.publish(channel, message)
