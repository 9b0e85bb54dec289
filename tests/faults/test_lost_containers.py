"""Containers that die, or have to be ended, while they run a prediction."""

import asyncio

import pytest

from core.lifecycle import FailureCode
from tests.faults.load import rows_of
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import Platform

pytestmark = pytest.mark.faults


async def test_a_killed_container_fails_its_prediction_with_a_reason(broken: Platform) -> None:
    created = await broken.client.create("millrace/sleeper", {"seconds": 600})
    await broken.client.until(created["id"], "processing")
    [row] = await rows_of(broken, [created["id"]])
    await broken.kill_container(row.instance_id)
    with recovery("container killed"):
        ended = await broken.client.finished(created["id"])
    assert ended["status"] == "failed"
    assert "container" in ended["error"]
    [row] = await rows_of(broken, [created["id"]])
    assert row.failure_code == FailureCode.CONTAINER_LOST
    next_one = await broken.client.create("millrace/sleeper", {"text": "next", "seconds": 0})
    assert (await broken.client.finished(next_one["id"]))["output"] == "next"
    await check_invariants(broken, [created["id"], next_one["id"]])


@pytest.mark.parametrize("prepared", ["process"], indirect=True)
async def test_thirty_that_wait_survive_a_redis_that_forgets_everything(broken: Platform) -> None:
    created = await asyncio.gather(
        *(broken.client.create("millrace/sleeper", {"text": str(index), "seconds": 0.1}) for index in range(30))
    )
    await broken.resources.redis.flushall()
    ended = [await broken.client.finished(prediction["id"]) for prediction in created]
    assert [prediction["output"] for prediction in ended] == [str(index) for index in range(30)]
    await check_invariants(broken, [prediction["id"] for prediction in created])
