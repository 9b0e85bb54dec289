"""Clients that post again by themselves: JavaScript when its connection breaks, Python 2.x after its time-out."""

import asyncio

import httpx
import orjson
from sqlalchemy import func, select

from core.resources import Resources
from core.settings import Settings
from core.tables import Prediction
from tests.api.conftest import client_of
from tests.api.scene import Caller, Published, Scene

WAIT = {"Prefer": "wait=20"}


async def ids_of(resources: Resources, caller: Caller, count: int) -> list[str]:
    """The caller's predictions, once there are so many."""
    counted = select(func.count()).select_from(Prediction).where(Prediction.account_id == caller.id)
    for _ in range(500):
        async with resources.database.autocommit() as tx:
            if await tx.scalar(counted) >= count:
                return list(
                    (await tx.execute(select(Prediction.id).where(Prediction.account_id == caller.id))).scalars()
                )
        await asyncio.sleep(0.02)
    raise AssertionError(f"There are not {count} predictions.")


def body_of(published: Published, text: str = "Ada") -> dict:
    return {"version": published.version, "input": {"text": text}}


async def drop(api: Settings, caller: Caller, body: dict, resources: Resources, count: int) -> None:
    """Posts, and hangs up as soon as there are `count` predictions."""
    content = orjson.dumps(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    head = (
        f"POST /v1/predictions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {caller.token}\r\n"
        f"Prefer: {WAIT['Prefer']}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    await writer.drain()
    await ids_of(resources, caller, count)
    writer.transport.abort()
    await asyncio.sleep(0.3)


async def test_a_post_after_a_broken_connection_gets_what_the_broken_one_made(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    body = body_of(await scene.publish(caller))
    await drop(api, caller, body, resources, 1)
    again = asyncio.create_task(client.post("/v1/predictions", content=orjson.dumps(body), headers=WAIT | JSON))
    await asyncio.sleep(0.3)
    [id] = await ids_of(resources, caller, 1)
    await scene.finish(await scene.start(id), "hello")
    answer = await again
    assert (answer.status_code, answer.json()["id"], answer.json()["output"]) == (201, id, "hello")


JSON = {"Content-Type": "application/json"}


async def test_six_posts_in_a_row_that_all_break_make_one_prediction(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    body = body_of(await scene.publish(caller))
    for _ in range(6):
        await drop(api, caller, body, resources, 1)
    assert len(await ids_of(resources, caller, 1)) == 1


async def test_another_request_after_a_broken_one_is_another_prediction(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    await drop(api, caller, body_of(published), resources, 1)
    different = orjson.dumps(body_of(published, "Grace"))
    asyncio_post = asyncio.create_task(client.post("/v1/predictions", content=different, headers=WAIT | JSON))
    assert len(await ids_of(resources, caller, 2)) == 2
    for id in await ids_of(resources, caller, 2):
        await scene.finish(await scene.start(id), "hello")
    await asyncio_post


async def test_equal_requests_that_were_answered_are_never_taken_for_one(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    body = body_of(await scene.publish(caller))
    first = {"x-stainless-retry-count": "0"}
    ids = {
        (await client.post("/v1/predictions", json=body, headers=headers)).json()["id"]
        for headers in ({}, {}, first, first)
    }
    assert len(ids) == 4


async def test_what_a_broken_post_made_is_taken_once(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    body = body_of(await scene.publish(caller))
    await drop(api, caller, body, resources, 1)
    headers = JSON | {"Prefer": "wait=1"}
    again = [await client.post("/v1/predictions", content=orjson.dumps(body), headers=headers) for _ in range(3)]
    assert len({answer.json()["id"] for answer in again}) == 3


async def test_of_posts_that_broke_each_is_taken_by_another(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    """Python 2.x posts three equal requests at a time, and gives all of them up after a minute."""
    body = body_of(await scene.publish(caller))
    await asyncio.gather(*(drop(api, caller, body, resources, 3) for _ in range(3)))
    ids = set(await ids_of(resources, caller, 3))
    retry = JSON | WAIT | {"x-stainless-retry-count": "1"}
    posts = [
        asyncio.create_task(client.post("/v1/predictions", content=orjson.dumps(body), headers=retry)) for _ in range(3)
    ]
    await asyncio.sleep(0.5)
    for id in ids:
        await scene.finish(await scene.start(id), id)
    assert {(await post).json()["id"] for post in posts} == ids


async def test_a_post_that_was_refused_is_not_the_next_ones(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    wrong = {"version": (await scene.publish(caller)).version, "input": {}}
    javascript = {"User-Agent": "replicate-javascript/1.4.0"}
    for _ in range(2):
        assert (await client.post("/v1/predictions", json=wrong, headers=javascript)).status_code == 422
    right = wrong | {"input": {"text": "Ada"}}
    ids = {(await client.post("/v1/predictions", json=right, headers=javascript)).json()["id"] for _ in range(3)}
    assert len(ids) == 3


async def test_a_repeat_is_another_tokens_business(
    api: Settings, scene: Scene, caller: Caller, resources: Resources
) -> None:
    other = await scene.caller()
    body = body_of(await scene.publish(caller))
    await drop(api, caller, body, resources, 1)
    async with client_of(api, other.token) as client:
        created = await client.post("/v1/predictions", content=orjson.dumps(body), headers={"Prefer": "wait=1"} | JSON)
    assert created.json()["id"] not in await ids_of(resources, caller, 1)
