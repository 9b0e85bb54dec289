"""How often somebody may try to log in: so often for one email, and more often from one address, in a while.

Counted in Redis, so that all api processes count together. Without Redis nobody is refused: the passwords are long, and
hashing them is slow.
"""

import hashlib

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core.errors import TooManyRequests
from core.log import get_logger
from core.redis import login_tries_key

log = get_logger()

WINDOW_SECONDS = 15 * 60
TRIES_PER_EMAIL = 10
#: Behind a proxy, or in one office, all people come from the same address.
TRIES_PER_ADDRESS = 100


async def count_try(redis: Redis, email: str, address: str) -> None:
    """Raises `TooManyRequests`."""
    limits = {_key("email", email): TRIES_PER_EMAIL, _key("address", address): TRIES_PER_ADDRESS}
    pipeline = redis.pipeline()
    for key in limits:
        # Its time begins with the first try; EXPIRE has no NX before Redis 7.
        pipeline.set(key, 0, ex=WINDOW_SECONDS, nx=True)
        pipeline.incr(key)
        pipeline.ttl(key)
    try:
        answers = await pipeline.execute()
    except (RedisError, OSError) as error:
        log.warning("logins not limited", error=str(error))
        return
    for limit, tries, seconds in zip(limits.values(), answers[1::3], answers[2::3], strict=True):
        if tries > limit:
            raise TooManyRequests("logging in", max(1, seconds))


async def forget_tries(redis: Redis, email: str) -> None:
    """Who got in may err as often again."""
    try:
        await redis.delete(_key("email", email))
    except (RedisError, OSError) as error:
        log.warning("tries not forgotten", error=str(error))


def _key(kind: str, value: str) -> str:
    # Anybody may type anything of any length there.
    return login_tries_key(kind, hashlib.sha256(value.strip().lower().encode()).hexdigest()[:32])
