"""Model processes that hang: the kernel runs them no more (SIGSTOP), whether they are at work or idle."""

from collections.abc import AsyncIterator

import pytest

from core.lifecycle import FailureCode
from tests.faults.load import rows_of
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform

pytestmark = pytest.mark.faults

RUN_TIMEOUT_SECONDS = 3


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("hung"), cancel_grace_seconds=1.0) as platform:
        quick = {"prediction_timeout_seconds": RUN_TIMEOUT_SECONDS}
        await platform.wait_ready(await platform.publish(PROJECTS / "sleeper", **quick))
        yield platform


async def test_a_model_that_hangs_at_work_times_out_and_the_next_runs(platform: Platform) -> None:
    created = await platform.client.create("millrace/sleeper", {"seconds": 600})
    await platform.client.until(created["id"], "processing")
    _hang(platform)
    with recovery(f"model hung at work, {RUN_TIMEOUT_SECONDS} s allowed"):
        ended = await platform.client.finished(created["id"])
        next_id = await _next_one_runs(platform)
    assert ended["status"] == "failed"
    [row] = await rows_of(platform, [created["id"]])
    assert row.failure_code == FailureCode.TIMEOUT
    await check_invariants(platform, [created["id"], next_id])


async def test_a_model_that_hangs_idle_is_replaced(platform: Platform) -> None:
    first = await _next_one_runs(platform)
    _hang(platform)
    with recovery("model hung idle"):
        created = await platform.client.create("millrace/sleeper", {"seconds": 0})
        ended = await platform.client.finished(created["id"])
    # What it took as it hung counts as its run, which took too long; nobody after it is made to wait for that.
    assert ended["status"] in ("succeeded", "failed"), ended
    ids = [first, ended["id"], await _next_one_runs(platform)]
    await check_invariants(platform, ids)


def _hang(platform: Platform) -> None:
    for process in platform.model_processes():
        process.suspend()


async def _next_one_runs(platform: Platform) -> str:
    created = await platform.client.create("millrace/sleeper", {"text": "next", "seconds": 0})
    ended = await platform.client.finished(created["id"])
    assert ended["output"] == "next", ended
    return created["id"]
