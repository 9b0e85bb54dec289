"""RQ carries slow background work: its queue, and how a job gets onto it. Predictions never travel this way."""

import asyncio
import os
import threading
import time
from types import FrameType

from redis import Redis
from rq import Queue, SimpleWorker
from rq.exceptions import DuplicateJobError
from rq.worker import WorkerStatus

from core.settings import Settings

QUEUE = "jobs"

# Building an environment with torch in it downloads gigabytes on a slow line.
_PREPARE_TIMEOUT_SECONDS = 3600
# Asking a payment provider about a few top-ups; adding up a month of ten million records.
_SHORT_TIMEOUT_SECONDS = 900
# A job of the same name is not put in line again: not for ever, should the worker that took it die.
_KEEP_WAITING_SECONDS = 900
_KEEP_SHORT_FAILURE_SECONDS = 30
_KEEP_RESULT_SECONDS = 300
_KEEP_FAILURE_SECONDS = 24 * 3600
# An idle worker that has been told to stop has long stopped by then, if it ever does.
_STOP_SECONDS = 10


class JobQueue:
    """RQ's queue, for those who put jobs onto it. RQ is synchronous, so each call takes a thread."""

    def __init__(self, settings: Settings) -> None:
        self._redis = Redis.from_url(settings.redis_url)
        self._queue = Queue(QUEUE, connection=self._redis)

    async def is_waiting(self) -> bool:
        """Whether a job waits for a worker."""
        return await asyncio.to_thread(len, self._queue) > 0

    async def prepare_version(self, version_id: str) -> None:
        """Asks for `worker.jobs.prepare_version(version_id)`. The caller holds the Version's preparation lease."""
        await asyncio.to_thread(
            self._queue.enqueue,
            "worker.jobs.prepare_version",
            version_id,
            job_timeout=_PREPARE_TIMEOUT_SECONDS,
            result_ttl=_KEEP_RESULT_SECONDS,
            failure_ttl=_KEEP_FAILURE_SECONDS,
        )

    async def recharge(self, account_id: str) -> bool:
        """Asks for `worker.jobs.recharge(account_id)`; False: that is in line already, or at work."""
        return await self._once("recharge", account_id)

    async def settle_top_ups(self, account_id: str) -> bool:
        """The same for `worker.jobs.settle_top_ups(account_id)`."""
        return await self._once("settle_top_ups", account_id)

    async def make_invoices(self, account_id: str) -> bool:
        """The same for `worker.jobs.make_invoices(account_id)`."""
        return await self._once("make_invoices", account_id)

    async def render_invoice(self, invoice_id: str) -> bool:
        """The same for `worker.jobs.render_invoice(invoice_id)`."""
        return await self._once("render_invoice", invoice_id)

    async def _once(self, job: str, id: str) -> bool:
        try:
            await asyncio.to_thread(
                self._queue.enqueue,
                f"worker.jobs.{job}",
                id,
                job_id=f"{job}-{id}",
                unique=True,
                job_timeout=_SHORT_TIMEOUT_SECONDS,
                ttl=_KEEP_WAITING_SECONDS,
                result_ttl=0,
                failure_ttl=_KEEP_SHORT_FAILURE_SECONDS,
            )
        except DuplicateJobError:
            return False
        return True

    def close(self) -> None:
        self._redis.close()


def work(settings: Settings) -> None:
    """Works through the queue until SIGTERM. Each job runs an event loop of its own, so no fork is needed or paid."""
    _Worker([QUEUE], connection=Redis.from_url(settings.redis_url)).work(with_scheduler=False)


class _Worker(SimpleWorker):
    """RQ stops by an exception out of its signal handler, which is lost where it meets one of a Redis that has gone."""

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        threading.Thread(target=self._end_anyway, daemon=True).start()
        super().request_stop(signum, frame)

    def _end_anyway(self) -> None:
        time.sleep(_STOP_SECONDS)
        while self.get_state() == WorkerStatus.BUSY:
            time.sleep(1)
        os._exit(1)
