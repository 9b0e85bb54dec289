"""Two thousand predictions are created while everything restarts in turn: none that was answered is lost, none runs
twice for one key."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from sqlalchemy import func, select

from core.ids import new_id
from core.tables import Prediction
from tests.faults.load import all_ended, counts
from tests.faults.recovery import recovery
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform

pytestmark = pytest.mark.faults

COUNT = 2000
CLIENTS = 16
#: The node last but one: what it holds goes back to the queue; what all others break then meets it.
IN_TURN = ("scheduler", "redis", "api", "webhooks", "node", "postgres", "jobs")
#: A client that asks again so often has waited longer than any restart takes.
TRIES, PAUSE_SECONDS = 300, 0.2
END_SECONDS = 180.0


@pytest.fixture
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("restarts")) as platform:
        await platform.wait_ready(await platform.publish(PROJECTS / "no-op"))
        yield platform


async def test_two_thousand_creates_survive_restarts_of_everything_in_turn(platform: Platform) -> None:
    ids: list[str] = []
    keys = [new_id() for _ in range(COUNT)]
    shares = [keys[start::CLIENTS] for start in range(CLIENTS)]
    creating = asyncio.gather(*(_create_all(platform, share, ids) for share in shares))
    for turn, name in enumerate(IN_TURN):
        # Spread over the creates, however fast this machine is.
        while len(ids) < COUNT * (turn + 1) // (len(IN_TURN) + 1):
            assert not creating.done() or not creating.exception(), creating.exception()
            await asyncio.sleep(PAUSE_SECONDS)
        await platform.restart(name)
    await creating
    with recovery("everything restarted in turn under 2,000 creates"):
        rows = await all_ended(platform, ids, END_SECONDS)
    assert len(set(ids)) == COUNT, "an answer was given twice"
    async with platform.resources.database.autocommit() as tx:
        assert await tx.scalar(select(func.count()).select_from(Prediction)) == COUNT, "one key made two predictions"
    assert {row.status for row in rows} == {"succeeded"}, await counts(platform, ids)
    await check_invariants(platform, ids)


async def _create_all(platform: Platform, keys: list[str], ids: list[str]) -> None:
    for key in keys:
        ids.append(await _create(platform, key))


async def _create(platform: Platform, key: str) -> str:
    """As an official client does: with its key, again and again until there is an answer."""
    body = {"version": "millrace/no-op", "input": {"text": key}}
    for _ in range(TRIES):
        try:
            answer = await platform.client.request("POST", "/predictions", body, {"Idempotency-Key": key})
        except aiohttp.ClientError:
            await asyncio.sleep(PAUSE_SECONDS)
            continue
        if answer.status == 201:
            return answer.body["id"]
        assert answer.status in (409, 500, 503), answer
        await asyncio.sleep(PAUSE_SECONDS)
    raise AssertionError(f"no answer after {TRIES} tries")
