"""`Idempotency-Key`: the same request again gets the same answer, and makes nothing twice."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import func, select, update

from api.access import Bucket
from core import idempotency, queue
from core.redis import rate_key
from core.resources import Resources
from core.settings import Settings
from core.tables import IdempotencyKey, Prediction
from tests.api.conftest import client_of
from tests.api.scene import Caller, Published, Scene
from tests.api.serving import serving

KEY = {"Idempotency-Key": "order-7"}


async def predictions_of(resources: Resources, caller: Caller) -> int:
    counted = select(func.count()).select_from(Prediction).where(Prediction.account_id == caller.id)
    async with resources.database.autocommit() as tx:
        return await tx.scalar(counted)


def body_of(published: Published, text: str = "Ada") -> dict:
    return {"version": published.version, "input": {"text": text}}


@pytest.fixture(scope="module")
def strict(settings: Settings) -> Iterator[Settings]:
    with serving(settings.model_copy(update={"rate_creates_per_minute": 1})) as served:
        yield served


async def test_the_same_request_again_gets_the_same_answer_to_the_byte(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    first = await client.post("/v1/predictions", json=body_of(published), headers=KEY)
    await scene.finish(await scene.start(first.json()["id"]), "hello")
    again = await client.post("/v1/predictions", json=body_of(published), headers=KEY)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await predictions_of(resources, caller) == 1
    assert await queue.depth(resources.redis, published.target) == 1


async def test_a_key_stands_for_one_request(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    assert (await client.post("/v1/predictions", json=body_of(published), headers=KEY)).status_code == 201
    for path, body in (
        ("/v1/predictions", body_of(published, "Grace")),
        (f"/v1/models/{published.model}/predictions", body_of(published)),
    ):
        refused = await client.post(path, json=body, headers=KEY)
        assert refused.status_code == 409
        assert "order-7" in refused.json()["detail"]
        assert refused.headers["x-should-retry"] == "false"


async def test_a_key_is_its_accounts_own(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    ids = {
        (await each.post("/v1/predictions", json=body_of(published), headers=KEY)).json()["id"]
        for each in (client, stranger)
    }
    assert len(ids) == 2


async def test_twins_at_one_moment_make_one_prediction(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    twins = await asyncio.gather(
        *(client.post("/v1/predictions", json=body_of(published), headers=KEY) for _ in range(8))
    )
    assert {answer.status_code for answer in twins} == {201}
    assert len({answer.json()["id"] for answer in twins}) == 1
    assert await predictions_of(resources, caller) == 1


async def test_a_repeat_of_a_held_request_waits_with_it(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    headers = {**KEY, "Prefer": "wait=20"}
    held = [asyncio.create_task(client.post("/v1/predictions", json=body_of(published), headers=headers))]
    for _ in range(500):
        if await predictions_of(resources, caller):
            break
        await asyncio.sleep(0.02)
    held.append(asyncio.create_task(client.post("/v1/predictions", json=body_of(published), headers=headers)))
    await asyncio.sleep(0.2)
    [id] = (await client.get("/v1/predictions")).json()["results"]
    await scene.finish(await scene.start(id["id"]), "hello")
    answers = [await each for each in held]
    assert [(answer.status_code, answer.json()["output"]) for answer in answers] == [(201, "hello")] * 2
    assert await predictions_of(resources, caller) == 1


async def test_a_refused_request_releases_its_key(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    bad = {"version": published.version, "input": {"text": 7}}
    for _ in range(2):
        assert (await client.post("/v1/predictions", json=bad, headers=KEY)).status_code == 422
    assert (await client.post("/v1/predictions", json=body_of(published), headers=KEY)).status_code == 201


async def test_a_twin_that_is_throttled_takes_no_key_from_the_one_that_is_held(
    strict: Settings, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    headers = KEY | {"Prefer": "wait=3"}
    async with client_of(strict, caller.token) as client:
        held = asyncio.create_task(client.post("/v1/predictions", json=body_of(published), headers=headers))
        for _ in range(500):
            if await predictions_of(resources, caller):
                break
            await asyncio.sleep(0.02)
        twin = await client.post("/v1/predictions", json=body_of(published), headers=headers)
        assert twin.status_code == 429
        id = (await held).json()["id"]
    async with resources.database.autocommit() as tx:
        kept = select(IdempotencyKey.resource_id).where(IdempotencyKey.account_id == caller.id)
        assert await tx.scalar(kept) == id
    assert await predictions_of(resources, caller) == 1


async def test_an_answer_is_kept_under_its_own_claim_only(resources: Resources, caller: Caller) -> None:
    """Between a request and its answer the key may have been released, and claimed by another request."""
    async with resources.database.autocommit() as tx:
        first = await idempotency.claim(tx, caller.id, "k", b"one", "first", 60)
        await idempotency.release(tx, first)
        second = await idempotency.claim(tx, caller.id, "k", b"two", "second", 60)
        await idempotency.answer(tx, first, 201, "application/json", b"{}")
        await idempotency.release(tx, first)
        assert await idempotency.claim(tx, caller.id, "k", b"three", "third", 60) == second


async def test_a_broken_body_releases_its_key(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    headers = {**KEY, "Content-Type": "application/json"}
    assert (await client.post("/v1/predictions", content=b"{", headers=headers)).status_code == 400
    body = body_of(await scene.publish(caller))
    assert (await client.post("/v1/predictions", json=body, headers=KEY)).status_code == 201


async def test_a_process_that_died_before_it_answered_leaves_no_second_prediction(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    """Its claim stands, and the next try with that key finds what was made."""
    published = await scene.publish(caller)
    first = (await client.post("/v1/predictions", json=body_of(published), headers=KEY)).json()
    unanswered = {"status": None, "content_type": None, "answer": None}
    async with resources.database.autocommit() as tx:
        await tx.execute(update(IdempotencyKey).where(IdempotencyKey.account_id == caller.id).values(**unanswered))
    again = await client.post("/v1/predictions", json=body_of(published), headers=KEY)
    assert (again.status_code, again.json()["id"]) == (201, first["id"])
    assert await predictions_of(resources, caller) == 1


async def test_a_key_is_free_again_when_its_time_is_over(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    first = (await client.post("/v1/predictions", json=body_of(published), headers=KEY)).json()
    over = update(IdempotencyKey).where(IdempotencyKey.account_id == caller.id).values(expires_at=func.now())
    async with resources.database.autocommit() as tx:
        await tx.execute(over)
    again = await client.post("/v1/predictions", json=body_of(published, "Grace"), headers=KEY)
    assert again.status_code == 201
    assert again.json()["id"] != first["id"]


async def test_an_upload_with_a_key_is_kept_once(client: httpx.AsyncClient) -> None:
    form = {"content": ("a.txt", b"hello")}
    uploads = await asyncio.gather(*(client.post("/v1/files", files=form, headers=KEY) for _ in range(3)))
    uploads.append(await client.post("/v1/files", files=form, headers=KEY))
    assert [answer.status_code for answer in uploads] == [201] * 4
    assert len({answer.content for answer in uploads}) == 1
    assert len((await client.get("/v1/files")).json()["results"]) == 1


@pytest.mark.parametrize("key", ["", "two words", "k" * 256])
async def test_a_key_that_is_none_is_refused(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post("/v1/predictions", json={}, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


# --- and the rate limit -----------------------------------------------------------------------------------------------


async def test_a_known_answer_is_given_whatever_the_rate_and_a_throttled_request_may_come_again(
    strict: Settings, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    async with client_of(strict, caller.token) as client:
        first = await client.post("/v1/predictions", json=body_of(published), headers=KEY)
        other = {"Idempotency-Key": "order-8"}
        assert (await client.post("/v1/predictions", json=body_of(published), headers=other)).status_code == 429
        again = await client.post("/v1/predictions", json=body_of(published), headers=KEY)
        assert (again.status_code, again.content) == (201, first.content)
        later = await client.post("/v1/predictions", json=body_of(published), headers=other)
        assert later.status_code == 429, "Its key must not stand in the way of the same request."
        await resources.redis.delete(rate_key(caller.id, Bucket.CREATES.name.lower()))
        in_time = await client.post("/v1/predictions", json=body_of(published), headers=other)
    assert (in_time.status_code, in_time.json()["id"] != first.json()["id"]) == (201, True)
