"""More models than places, with real containers: each is served in its turn, and a place is given when it is free."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from sqlalchemy import func, select

from core.tables import Instance, Node
from tests.faults.load import all_ended
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform

_LOOK_SECONDS = 0.1
#: Beyond the places there are.
MORE = 2


@pytest.fixture(scope="module")
async def swapping(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("swapping")) as platform:
        yield platform


async def test_more_models_than_places_take_turns_and_no_place_is_given_twice(swapping: Platform) -> None:
    async with swapping.resources.database.autocommit() as tx:
        places = await tx.scalar(select(Node.max_instances))
    models = [await swapping.publish(PROJECTS / "sleeper", f"model-{number}") for number in range(places + MORE)]
    await swapping.wait_ready(*models)
    seen: list[int] = []
    looking = asyncio.create_task(_look(swapping, seen))
    try:
        ids = []
        for _ in range(2):
            created = [await swapping.client.create(model, {"text": model, "seconds": 0.1}) for model in models]
            rows = {row.id: row for row in await all_ended(swapping, [each["id"] for each in created], seconds=180)}
            outputs = [rows[each["id"]].output for each in created]
            assert outputs == models, [row.error for row in rows.values()]
            ids += rows
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
    assert max(seen) <= places, "two containers in one place"
    async with swapping.resources.database.autocommit() as tx:
        boots = await tx.scalar(select(func.count()).select_from(Instance))
    assert boots >= places + 2 * MORE, "nobody made room for anybody"
    await check_invariants(swapping, ids)


async def _look(platform: Platform, seen: list[int]) -> None:
    """How many containers there are, as the machine says."""
    while True:
        seen.append(len(await asyncio.to_thread(platform.instances_with_containers)))
        await asyncio.sleep(_LOOK_SECONDS)
