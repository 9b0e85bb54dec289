"""Containers in Docker that run out of memory, are killed behind the node's back, or would not end."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from core.lifecycle import FailureCode
from tests.faults.load import rows_of, until
from tests.faults.recovery import recovery
from tests.support.docker_fixtures import ModelImage
from tests.support.invariants import check_invariants
from tests.support.platform import Platform

pytestmark = [pytest.mark.faults, pytest.mark.docker]

COG = "0.23.1"
MODEL = "millrace/misbehaving"
#: A Cog server has room in it, and what is asked for has not.
LIMIT, ASKED_MEGABYTES = "256m", 1024


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory, model_image: ModelImage) -> AsyncIterator[Platform]:
    image = await asyncio.to_thread(model_image, "misbehaving", COG)
    async with Platform(tmp_path_factory.mktemp("broken-containers"), runtime="docker") as platform:
        await platform.wait_ready(await platform.publish_image(image, "misbehaving"))
        yield platform


async def test_a_model_that_is_killed_for_its_memory_fails_with_a_reason_and_is_replaced(platform: Platform) -> None:
    ids = [await _survives(platform)]
    for container in platform.docker_containers():
        container.update(mem_limit=LIMIT, memswap_limit=LIMIT)
    created = await platform.client.create(MODEL, {"how": "allocate", "megabytes": ASKED_MEGABYTES})
    with recovery("container out of memory"):
        ended = await platform.client.finished(created["id"])
        assert ended["status"] == "failed", ended
        ids += [created["id"], await _survives(platform)]
    [row] = await rows_of(platform, [created["id"]])
    assert row.failure_code == FailureCode.CONTAINER_LOST, row.error
    await check_invariants(platform, ids)


async def test_a_container_that_hangs_and_is_killed_by_its_owner_fails_its_prediction(platform: Platform) -> None:
    """Exit code 137, as an engine reports what was killed behind the node's back."""
    created = await platform.client.create(MODEL, {"how": "sleep", "seconds": 600})
    await platform.client.until(created["id"], "processing")
    [row] = await rows_of(platform, [created["id"]])
    await platform.kill_container(row.instance_id)
    with recovery("container exited 137"):
        ended = await platform.client.finished(created["id"])
        ids = [created["id"], await _survives(platform)]
    assert ended["status"] == "failed"
    [row] = await rows_of(platform, [created["id"]])
    assert row.failure_code == FailureCode.CONTAINER_LOST
    await check_invariants(platform, ids)


async def test_a_container_whose_model_ignores_cancel_goes_with_it(platform: Platform) -> None:
    created = await platform.client.create(MODEL, {"how": "ignore_cancel", "seconds": 600})
    await platform.client.until(created["id"], "processing")
    [row] = await rows_of(platform, [created["id"]])
    await platform.client.cancel(created["id"])
    ended = await platform.client.finished(created["id"])
    assert (ended["status"], ended["error"]) == ("canceled", None)
    await until(partial(_is_gone, platform, row.instance_id))
    await check_invariants(platform, [created["id"], await _survives(platform)])


async def _is_gone(platform: Platform, instance_id: str) -> bool:
    return instance_id not in await asyncio.to_thread(platform.instances_with_containers)


async def _survives(platform: Platform) -> str:
    created = await platform.client.create(MODEL, {"how": "sleep", "seconds": 0})
    ended = await platform.client.finished(created["id"])
    assert ended["output"] == "survived sleep", ended
    return created["id"]
