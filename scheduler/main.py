"""One leader, woken by an enqueue, a finished boot or a lost node, and once a second anyway, runs the sweeps.

Decides only: it writes rows and rings bells, and never touches a container.
"""

import asyncio
import signal
from collections.abc import Sequence

import uvloop
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from core import health
from core.clock import monotonic
from core.jobs import JobQueue
from core.log import configure, get_logger
from core.redis import SCHEDULER_BELL
from core.resources import Resources, open_resources
from core.settings import get_settings
from scheduler.sweeps import SWEEPS, Sweep
from scheduler.sweeps.base import Context

log = get_logger()

_PASS_SECONDS = 1.0
_RETRY_SECONDS = 1.0
#: So many breaks without a whole pass between them, and it is better to start afresh.
_MAX_FAILURES = 30


class Scheduler:
    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._jobs = JobQueue(resources.settings)
        self._due: dict[str, float] = {}
        self._healthy_since = monotonic()
        self._failures = 0

    async def run(self) -> None:
        """Leads as soon as no other scheduler does, for as long as the lock is held."""
        while True:
            try:
                async with self._resources.database.engine.connect() as connection:
                    try:
                        await self._take_lead(connection)
                        await self._sweep_for_ever(connection)
                    finally:
                        # Back in the pool it would hold the lock, and nobody could lead.
                        await connection.invalidate()
            except (SQLAlchemyError, OSError) as error:
                self._stumble("database", error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _take_lead(self, connection: AsyncConnection) -> None:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        # A dead leader's lock goes when Postgres notices its connection is gone: soon, for a process on any machine.
        await connection.execute(text("SET tcp_keepalives_idle = 5"))
        while True:
            if await self._scalar(connection, f"SELECT pg_try_advisory_lock({health.LEADER_LOCK})"):
                break
            await asyncio.sleep(_RETRY_SECONDS)
        log.info("leading")

    async def _sweep_for_ever(self, connection: AsyncConnection) -> None:
        woken = False
        while True:
            # The lock lives as long as this connection: as long as it answers, nobody else leads.
            await self._scalar(connection, "SELECT 1")
            await self._pass(woken)
            woken = await self._wake()

    async def _pass(self, woken: bool) -> None:
        """Runs what is due, and what is to be woken before the rest, whenever somebody rings. A sweep that breaks keeps
        no other from its turn."""
        moment = monotonic()
        context = Context(self._resources, self._jobs, moment - self._healthy_since)
        due = [sweep for sweep in SWEEPS if moment >= self._due.get(sweep.name, 0.0)]
        if woken:
            due = _woken_first(due)
        whole = True
        while due:
            sweep = due.pop(0)
            whole &= await self._run_sweep(sweep, context, moment)
            if due and not sweep.wakes and await self._is_rung():
                due = _woken_first(due)
        if whole:
            self._failures = 0

    async def _run_sweep(self, sweep: Sweep, context: Context, moment: float) -> bool:
        self._due[sweep.name] = moment + sweep.interval_seconds
        try:
            await sweep.run(context)
        except SQLAlchemyError as error:
            self._stumble(sweep.name, error)
            return False
        except (RedisError, OSError) as error:
            log.warning("sweep not finished", sweep=sweep.name, error=str(error))
        return True

    async def _wake(self) -> bool:
        """True if somebody rang, False when a second has passed."""
        try:
            return await self._resources.redis.blpop([SCHEDULER_BELL], timeout=_PASS_SECONDS) is not None
        except (RedisError, OSError) as error:
            log.warning("bell not heard", error=str(error))
            await asyncio.sleep(_PASS_SECONDS)
            return False

    async def _is_rung(self) -> bool:
        """Somebody has rung in the meantime."""
        try:
            return await self._resources.redis.lpop(SCHEDULER_BELL) is not None
        except (RedisError, OSError):
            return False  # It is waited for again, and said then.

    def _stumble(self, where: str, error: Exception) -> None:
        if not isinstance(error, SQLAlchemyError) or (isinstance(error, OperationalError) and not _is_answer(error)):
            # The database is away, however long, and with it every node's way to report: to start afresh helps nobody.
            self._healthy_since = monotonic()
            log.warning("database away, will try again", where=where, error=str(error))
            return
        self._failures += 1
        log.warning("pass broken, will try again", where=where, error=str(error), failures=self._failures)
        if self._failures >= _MAX_FAILURES:
            raise error

    @staticmethod
    async def _scalar(connection: AsyncConnection, statement: str) -> object:
        return (await connection.execute(text(statement))).scalar()


def _woken_first(due: Sequence[Sweep]) -> list[Sweep]:
    """Somebody waits for these."""
    return [*(sweep for sweep in SWEEPS if sweep.wakes), *(sweep for sweep in due if not sweep.wakes)]


def _is_answer(error: OperationalError) -> bool:
    """Postgres ended one statement, which took too long or met another, and serves everybody else."""
    return isinstance(error.orig, QueryCanceled | LockNotAvailable | DeadlockDetected)


async def _run() -> None:
    settings = get_settings()
    configure(settings, "scheduler")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with open_resources(settings) as resources:
        tasks = [
            asyncio.create_task(Scheduler(resources).run()),
            asyncio.create_task(health.keep_beating(settings, "scheduler")),
            asyncio.create_task(stop.wait()),
        ]
        done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        done.pop().result()


def main() -> None:
    uvloop.run(_run())
