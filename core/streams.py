"""A prediction's stream in Redis: its output chunks as they come, and its end, replayable from any point.

A listener that leaves or lags disturbs nobody. Lost streams are no harm: the row has everything, a moment later.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from core.redis import BLOCK_SECONDS, stream_key

#: Replay after the end, and how long an abandoned stream lives.
_KEEP_SECONDS = 3600
_LIVE_SECONDS = 24 * 3600
# A model that never stops talking must not fill Redis; listeners that are this far behind read the row.
_MAX_ENTRIES = 100_000
_BATCH = 256

START = "0-0"


@dataclass(frozen=True, slots=True)
class Entry:
    """`kind` is `output` (value: one chunk) or `done` (value: {status, error})."""

    id: str
    kind: str
    value: Any


async def extend(redis: Redis, prediction_id: str, chunks: Iterable[Any]) -> None:
    key = stream_key(prediction_id)
    pipeline = redis.pipeline(transaction=False)
    for chunk in chunks:
        pipeline.xadd(key, {"output": orjson.dumps(chunk)}, maxlen=_MAX_ENTRIES, approximate=True)
    pipeline.expire(key, _LIVE_SECONDS)
    await pipeline.execute()


async def reset(redis: Redis, *prediction_ids: str) -> None:
    """Forgets what an interrupted attempt had said, and what is no longer kept."""
    await redis.unlink(*map(stream_key, prediction_ids))


def end(pipeline: Pipeline, prediction_id: str, status: str, error: str | None) -> None:
    """Closes its stream; it is replayed for a while yet."""
    key = stream_key(prediction_id)
    pipeline.xadd(key, {"done": orjson.dumps({"status": status, "error": error})})
    pipeline.expire(key, _KEEP_SECONDS)


async def read(redis: Redis, prediction_id: str, after: str, seconds: float = BLOCK_SECONDS) -> list[Entry]:
    """Entries after that id; waits so long for the first, and may return none."""
    found = await redis.xread({stream_key(prediction_id): after}, count=_BATCH, block=int(seconds * 1000))
    if not found:
        return []
    entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
    return [Entry(id, *_decode(fields)) for id, fields in entries]


def _decode(fields: dict[str, str]) -> tuple[str, Any]:
    [(kind, value)] = fields.items()
    return kind, orjson.loads(value)


async def exists(redis: Redis, prediction_id: str) -> bool:
    return bool(await redis.exists(stream_key(prediction_id)))
