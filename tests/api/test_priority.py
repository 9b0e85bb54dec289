"""What is sent with low priority waits for the rest, says so, and stays low."""

import httpx
import pytest

from core import queue
from core.people import accounts
from core.redis import LIMITS, running_key
from core.resources import Resources
from tests.api.scene import Caller, Published, Scene

LOW = {"X-Millrace-Priority": "low"}


async def create(client: httpx.AsyncClient, published: Published, **headers: str) -> httpx.Response:
    body = {"version": published.version, "input": {"text": "Ada"}}
    return await client.post("/v1/predictions", json=body, headers=headers)


async def test_what_is_low_is_taken_last_and_says_so(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    low = (await create(client, published, **LOW)).json()
    normal = (await create(client, published, **{"X-Millrace-Priority": "Normal"})).json()
    plain = (await create(client, published)).json()
    assert low["priority"] == "low"
    assert "priority" not in normal | plain, "what official clients send is answered as they know it"
    shown = (await client.get(f"/v1/predictions/{low['id']}")).json()
    assert (shown["priority"], shown["queue"]["position"]) == ("low", 2)
    [listed] = [row for row in (await client.get("/v1/predictions")).json()["results"] if row["id"] == low["id"]]
    assert listed["priority"] == "low"
    order = await queue.take(resources.redis, published.target, 3)
    assert order == [normal["id"], plain["id"], low["id"]]


@pytest.mark.parametrize("priority", ["high", "0", "low, normal", "urgent" * 40])
async def test_another_priority_is_refused_in_a_sentence_and_runs_nothing(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, priority: str
) -> None:
    answer = await create(client, await scene.publish(caller), **{"X-Millrace-Priority": priority})
    assert answer.status_code == 400
    assert answer.json()["detail"] == f"X-Millrace-Priority is low or normal, not {priority[:80]!r}."
    assert (await client.get("/v1/predictions")).json()["results"] == []


async def test_who_is_at_the_limit_of_the_account_reads_so_and_when_it_ends(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    async with resources.database.transaction() as tx:
        await accounts.limit_running(tx, caller.id, 4)
    ids = [(await create(client, published)).json()["id"] for _ in range(5)]
    assert await queue.take(resources.redis, published.target, 5) == ids[:4]
    standing = (await client.get(f"/v1/predictions/{ids[4]}")).json()["queue"]
    sentence = "You run 4 predictions at once, the most your account may; this one starts when one of them ends."
    assert standing == {"position": 0, "reason": sentence, "estimated_seconds": None}
    await client.post(f"/v1/predictions/{ids[0]}/cancel")
    assert (await client.get(f"/v1/predictions/{ids[4]}")).json()["queue"]["reason"] is None
    assert await queue.take(resources.redis, published.target, 5) == ids[4:]
    await resources.redis.delete(LIMITS, running_key(caller.id))
    async with resources.database.transaction() as tx:
        await accounts.limit_running(tx, caller.id, None)
