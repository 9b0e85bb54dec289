"""The wall clock of the processes jumps by an hour, there and back, while predictions wait and run (libfaketime)."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from cli.processes import PROCESSES
from tests.faults.load import all_ended, rows_of, until
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform

pytestmark = pytest.mark.faults

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.fixture
async def offset(tmp_path: Path) -> Path:
    """A file with what is added to the time of day; monotonic clocks and the times of files stay as they are."""
    if not LIBRARIES:
        pytest.skip("Clocks jump by libfaketime: apt-get install faketime")
    file = tmp_path / "offset"
    file.write_text("+0\n")
    return file


@pytest.fixture
async def platform(tmp_path: Path, offset: Path) -> AsyncIterator[Platform]:
    variables = {
        "LD_PRELOAD": LIBRARIES[0],
        "FAKETIME_TIMESTAMP_FILE": offset,
        "FAKETIME_NO_CACHE": 1,
        "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        "NO_FAKE_STAT": 1,
    }
    prefix = ("env", *(f"{name}={value}" for name, value in variables.items()))
    # All but `jobs`, which sleeps by a call that libfaketime breaks.
    prefixes = {name: prefix for name in PROCESSES if name != "jobs"}
    async with Platform(tmp_path / "data", prefixes) as platform:
        await platform.wait_ready(await platform.publish(PROJECTS / "sleeper"))
        yield platform


async def test_a_clock_that_jumps_by_an_hour_and_back_ends_nothing(platform: Platform, offset: Path) -> None:
    ids = []
    for jump in ("+3600", "+0"):
        running = await _create(platform, 3)
        await until(partial(_runs, platform, running))
        waiting = await _create(platform, 0)
        offset.write_text(f"{jump}\n")
        with recovery(f"clock set to {jump} s"):
            later = await _create(platform, 0)
            rows = await all_ended(platform, [running, waiting, later])
        assert {(row.status, row.attempt) for row in rows} == {("succeeded", 1)}, rows
        ids += [running, waiting, later]
    await check_invariants(platform, ids)


async def _create(platform: Platform, seconds: float) -> str:
    return (await platform.client.create("millrace/sleeper", {"text": "tick", "seconds": seconds}))["id"]


async def _runs(platform: Platform, id: str) -> bool:
    [row] = await rows_of(platform, [id])
    return row.status == "processing"
