"""How often an account may call: what is told on every answer, and what who calls too often is told."""

import asyncio
import math
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from api.access import Bucket
from api.ratelimit import Limits, Throttled
from core.ids import new_id
from core.redis import open_redis
from core.resources import Resources
from core.settings import Settings
from tests.api.conftest import client_of
from tests.api.scene import Caller, Scene
from tests.api.serving import serving

CREATES, CALLS = 3, 6


@pytest.fixture(scope="module")
def strict(settings: Settings) -> AsyncIterator[Settings]:
    limits = {"rate_creates_per_minute": CREATES, "rate_calls_per_minute": CALLS}
    with serving(settings.model_copy(update=limits)) as served:
        yield served


@pytest.fixture
async def hurried(strict: Settings, caller: Caller) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(strict, caller.token) as client:
        yield client


async def test_every_answer_to_a_caller_says_what_is_left(hurried: httpx.AsyncClient) -> None:
    answers = [
        await hurried.get("/v1/account"),
        await hurried.get("/v1/predictions/none"),
        await hurried.get("/v1/models"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 200]
    assert [int(answer.headers["ratelimit-remaining"]) for answer in answers] == [CALLS - 1, CALLS - 2, CALLS - 3]
    assert all(0 < int(answer.headers["ratelimit-reset"]) <= 60 for answer in answers)


async def test_who_calls_too_often_is_told_when_to_come_back(hurried: httpx.AsyncClient) -> None:
    answers = [await hurried.get("/v1/hardware") for _ in range(CALLS + 1)]
    refused = answers[-1]
    assert [answer.status_code for answer in answers] == [200] * CALLS + [429]
    problem, after = refused.json(), int(refused.headers["retry-after"])
    assert refused.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["retry_after"]) == (429, after)
    assert re.search(r"resets in ~(\d+)s", problem["detail"])[1] == str(after)
    assert 0 < after <= math.ceil(60 / CALLS)
    assert refused.headers["ratelimit-remaining"] == "0"


async def test_creating_is_counted_apart_from_the_rest(
    hurried: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    body = {"version": (await scene.publish(caller)).version, "input": {"text": "Ada"}}
    created = [await hurried.post("/v1/predictions", json=body) for _ in range(CREATES + 1)]
    assert [answer.status_code for answer in created] == [201] * CREATES + [429]
    assert (await hurried.get("/v1/predictions")).status_code == 200


async def test_an_account_is_not_slowed_by_another(hurried: httpx.AsyncClient, strict: Settings, scene: Scene) -> None:
    for _ in range(CALLS + 1):
        await hurried.get("/v1/account")
    async with client_of(strict, (await scene.caller()).token) as other:
        assert (await other.get("/v1/account")).status_code == 200


async def test_of_calls_at_one_moment_exactly_so_many_pass(resources: Resources) -> None:
    limits = Limits(resources.settings.model_copy(update={"rate_calls_per_minute": 20}), resources.redis)
    account = new_id()
    calls = await asyncio.gather(*(limits.take(account, Bucket.CALLS) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(call, Throttled) for call in calls) == 30


async def test_what_was_used_comes_back_with_time(resources: Resources) -> None:
    limits = Limits(resources.settings.model_copy(update={"rate_calls_per_minute": 60}), resources.redis)
    account = new_id()
    took = await asyncio.gather(*(limits.take(account, Bucket.CALLS) for _ in range(61)), return_exceptions=True)
    [refused] = [each for each in took if isinstance(each, Throttled)]
    await asyncio.sleep(refused.retry_after)
    assert (await limits.take(account, Bucket.CALLS)).remaining == 0


async def test_without_a_limit_nothing_is_counted(resources: Resources) -> None:
    limits = Limits(resources.settings.model_copy(update={"rate_calls_per_minute": 0}), resources.redis)
    assert await limits.take(new_id(), Bucket.CALLS) is None


async def test_without_redis_nobody_is_refused(settings: Settings) -> None:
    redis = open_redis(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    try:
        assert await Limits(settings, redis).take(new_id(), Bucket.CREATES) is None
    finally:
        await redis.aclose(close_connection_pool=True)


async def test_who_has_no_token_is_counted_by_address(strict: Settings) -> None:
    async with client_of(strict, None) as anonymous:
        answers = [await anonymous.get("/v1/search?query=x") for _ in range(CALLS + 1)]
    assert [answer.status_code for answer in answers] == [200] * CALLS + [429]
