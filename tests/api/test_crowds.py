"""Many at one moment, and two connections to Postgres: whatever they wait for, nobody else waits for it with them."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from sqlalchemy import func, select

from core import queue
from core.resources import Resources
from core.settings import Settings
from core.tables import Prediction
from tests.api.conftest import client_of
from tests.api.scene import CHUNKS, Caller, Scene
from tests.api.serving import serving

CROWD = 60
KEY = {"Idempotency-Key": "one-click"}


@pytest.fixture(scope="module")
def narrow(settings: Settings) -> Iterator[Settings]:
    """The api with as few connections as it can work with."""
    with serving(settings.model_copy(update={"database_pool": 2})) as served:
        yield served


@pytest.fixture
async def client(narrow: Settings, caller: Caller) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(narrow, caller.token) as client:
        yield client


@pytest.fixture
async def neighbour(narrow: Settings, scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(narrow, (await scene.caller()).token) as client:
        yield client


async def test_a_crowd_that_makes_the_same_makes_it_once_and_keeps_nobody_from_an_answer(
    client: httpx.AsyncClient, neighbour: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada"}}
    twins = [asyncio.create_task(client.post("/v1/predictions", json=body, headers=KEY)) for _ in range(CROWD)]
    others = [await neighbour.get("/v1/account") for _ in range(10)]
    others += [await neighbour.post("/v1/predictions", json=body) for _ in range(10)]
    answers = await asyncio.gather(*twins)
    assert {answer.status_code for answer in others} == {200, 201}
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    made = select(func.count()).select_from(Prediction).where(Prediction.account_id == caller.id)
    async with resources.database.autocommit() as tx:
        assert await tx.scalar(made) == 1
    assert await queue.depth(resources.redis, published.target) == 1 + 10


async def test_those_who_are_held_or_listen_hold_no_connection(
    client: httpx.AsyncClient, neighbour: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller, CHUNKS)
    body = {"version": published.version, "input": {"text": "Ada"}}
    created = (await client.post("/v1/predictions", json=body)).json()
    row = await scene.start(created["id"])
    listening = [asyncio.create_task(_heard(created["urls"]["stream"])) for _ in range(CROWD)]
    headers = KEY | {"Prefer": "wait=30"}
    held = [asyncio.create_task(client.post("/v1/predictions", json=body, headers=headers)) for _ in range(CROWD)]
    for _ in range(20):
        assert (await neighbour.get("/v1/account")).status_code == 200
    waiting = await _only_other(client, created["id"])
    await scene.say(created["id"], "Once")
    await scene.finish(row, ["Once"])
    await scene.finish(await scene.start(waiting), ["Once"])
    assert all("event: done" in heard for heard in await asyncio.gather(*listening))
    answers = await asyncio.gather(*held)
    assert {(answer.status_code, answer.json()["id"]) for answer in answers} == {(201, waiting)}


async def _heard(url: str) -> str:
    async with httpx.AsyncClient(timeout=60, verify=False, trust_env=False) as listener:
        return (await listener.get(url, headers={"Accept": "text/event-stream"})).text


async def _only_other(client: httpx.AsyncClient, known: str) -> str:
    """The prediction that all who are held wait for, once it is there."""
    for _ in range(500):
        others = [each["id"] for each in (await client.get("/v1/predictions")).json()["results"] if each["id"] != known]
        if others:
            [other] = others
            return other
        await asyncio.sleep(0.05)
    raise AssertionError("Nobody's request was taken.")
