"""RQ carries slow background work: its queue, and how a job gets onto it. Predictions never travel this way."""

import asyncio

from redis import Redis
from rq import Queue

from core.settings import Settings

QUEUE = "jobs"

# Building an environment with torch in it downloads gigabytes on a slow line.
_PREPARE_TIMEOUT_SECONDS = 3600
_KEEP_RESULT_SECONDS = 300
_KEEP_FAILURE_SECONDS = 24 * 3600


def open_queue(settings: Settings) -> Queue:
    return Queue(QUEUE, connection=Redis.from_url(settings.redis_url))


async def are_waiting(queue: Queue) -> bool:
    """Whether a job waits for a worker."""
    return await asyncio.to_thread(len, queue) > 0


async def enqueue_prepare_version(queue: Queue, version_id: str) -> None:
    """Asks for `worker.jobs.prepare_version(version_id)`. The caller holds the Version's preparation lease."""
    await asyncio.to_thread(
        queue.enqueue,
        "worker.jobs.prepare_version",
        version_id,
        job_timeout=_PREPARE_TIMEOUT_SECONDS,
        result_ttl=_KEEP_RESULT_SECONDS,
        failure_ttl=_KEEP_FAILURE_SECONDS,
    )
