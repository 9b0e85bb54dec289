"""One scheduler leads. When it dies another does, and a leader that loses its connection gives up its lock."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text

from core.redis import SCHEDULER_BELL, ring
from core.resources import Resources, open_resources
from core.settings import Settings
from scheduler import main
from scheduler.main import Scheduler
from scheduler.sweeps import SWEEPS, Sweep
from scheduler.sweeps.base import Context

ROOT = Path(__file__).parents[2]
#: Importing everything, on a busy machine.
PATIENCE_SECONDS = 60.0


@asynccontextmanager
async def scheduler_process(settings: Settings, data: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {
        **os.environ,
        "MILLRACE_DATA": str(data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scheduler", cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def leads(process: asyncio.subprocess.Process) -> None:
    """Returns when it says so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line := await process.stderr.readline():
            if orjson.loads(line)["event"] == "leading":
                return
    raise AssertionError("the scheduler ended before it led")


async def leaders(resources: Resources) -> int:
    async with resources.database.autocommit() as tx:
        return await tx.scalar(
            text(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7310002 AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )


@pytest.mark.faults
async def test_when_the_leader_is_killed_the_other_leads(
    settings: Settings, resources: Resources, tmp_path: Path, clean_database: None
) -> None:
    async with scheduler_process(settings, tmp_path) as first:
        await leads(first)
        async with scheduler_process(settings, tmp_path) as second:
            assert await leaders(resources) == 1
            first.send_signal(signal.SIGKILL)
            await leads(second)
            assert await leaders(resources) == 1
            second.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(second.wait(), PATIENCE_SECONDS) == 0
    assert await freed(resources)


async def test_a_leader_whose_lock_is_taken_from_it_leads_again_and_holds_one(
    settings: Settings, resources: Resources, clean_database: None
) -> None:
    """What an administrator, or a failover, does to its connection."""
    async with open_resources(settings) as own:
        running = asyncio.create_task(Scheduler(own).run())
        try:
            for _ in range(2):
                pid = await holder(resources)
                async with resources.database.autocommit() as tx:
                    await tx.execute(text(f"SELECT pg_terminate_backend({pid})"))
                assert await holder(resources, other_than=pid) != pid
                assert await leaders(resources) == 1
        finally:
            running.cancel()
            await asyncio.wait([running])
    assert await freed(resources)


async def freed(resources: Resources) -> bool:
    """Postgres notices a closed connection a moment later."""
    for _ in range(200):
        if not await leaders(resources):
            return True
        await asyncio.sleep(0.05)
    return False


async def holder(resources: Resources, other_than: int | None = None) -> int:
    """The connection that holds the leader's lock."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with resources.database.autocommit() as tx:
                pid = await tx.scalar(text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7310002"))
            if pid not in (None, other_than):
                return pid
            await asyncio.sleep(0.05)


async def test_a_sweep_that_breaks_keeps_no_other_from_its_turn(
    settings: Settings, resources: Resources, clean_database: None
) -> None:
    """A column that scale and rescue need is gone; waiting predictions are still queued, and the lock is held once."""
    async with open_resources(settings) as own:
        scheduler = Scheduler(own)
        async with resources.database.transaction() as tx:
            await tx.execute(text("ALTER TABLE nodes RENAME COLUMN boot_id TO boot_id_away"))
        try:
            await scheduler._pass(woken=True)
        finally:
            async with resources.database.transaction() as tx:
                await tx.execute(text("ALTER TABLE nodes RENAME COLUMN boot_id_away TO boot_id"))
        assert set(scheduler._due) == {sweep.name for sweep in SWEEPS}


async def test_who_rings_waits_for_no_more_than_the_sweep_that_runs(
    settings: Settings, resources: Resources, monkeypatch: pytest.MonkeyPatch, clean_database: None
) -> None:
    ran: list[str] = []

    def sweep(name: str, *, wakes: bool = False, rings: bool = False) -> Sweep:
        async def run(context: Context) -> None:
            ran.append(name)
            if rings:
                await ring(context.resources.redis, SCHEDULER_BELL)

        return Sweep(name, 60.0, run, wakes)

    tidying = [sweep("first"), sweep("second", rings=True), sweep("third"), sweep("last")]
    monkeypatch.setattr(main, "SWEEPS", [*tidying[:2], sweep("decides", wakes=True), *tidying[2:]])
    async with open_resources(settings) as own:
        await own.redis.delete(SCHEDULER_BELL)
        await Scheduler(own)._pass(woken=False)
        assert ran == ["first", "second", "decides", "third", "last"]
        ran.clear()
        await Scheduler(own)._pass(woken=True)
        assert ran == ["decides", "first", "second", "decides", "third", "last"]


@pytest.mark.parametrize(
    ("statement", "was_away"),
    [("SELECT pg_sleep(10)", False), ("SELECT pg_terminate_backend(pg_backend_pid())", True)],
)
async def test_only_a_database_that_was_away_excuses_nodes_that_did_not_report(
    settings: Settings, resources: Resources, clean_database: None, statement: str, was_away: bool
) -> None:
    async def fail(context: Context) -> None:
        async with context.resources.database.engine.connect() as connection:
            try:
                await connection.execute(text("SET LOCAL statement_timeout = 10"))
                await connection.execute(text(statement))
            finally:
                await connection.invalidate()

    async with open_resources(settings) as own:
        scheduler = Scheduler(own)
        before = scheduler._healthy_since
        assert not await scheduler._run_sweep(Sweep("fails", 1.0, fail), Context(own, scheduler._jobs, 0.0), 0.0)
        assert (scheduler._healthy_since > before) == was_away
