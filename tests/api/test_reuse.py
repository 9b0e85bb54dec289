"""Results used again: only where the Version's owner allows it and the request asks for it, and for nothing."""

import httpx
import pytest
from sqlalchemy import func, select, update

from core import queue
from core.lifecycle import PredictionStatus
from core.resources import Resources
from core.tables import LedgerEntry, Prediction, UsageRecord, Version, WebhookDelivery
from tests.api.scene import FILES, TEXT, Caller, Published, Scene

ALLOW = {"Millrace-Cache": "allow"}


async def publish(scene: Scene, resources: Resources, caller: Caller, output: dict = TEXT) -> Published:
    """A Version whose owner says that equal inputs give equal outputs."""
    published = await scene.publish(caller, output)
    async with resources.database.autocommit() as tx:
        await tx.execute(update(Version).where(Version.id == published.version).values(caches_results=True))
    return published


async def create(client: httpx.AsyncClient, published: Published, text: str = "Ada", **more: str) -> httpx.Response:
    body = {"version": published.version, "input": {"text": text}} | more
    return await client.post("/v1/predictions", json=body, headers=ALLOW)


async def ran(client: httpx.AsyncClient, scene: Scene, published: Published, output: object = "hello") -> str:
    """The id of a prediction that really ran."""
    id = (await create(client, published)).json()["id"]
    await scene.finish(await scene.start(id), output)
    return id


async def test_an_equal_request_gets_the_result_at_once_for_nothing_and_says_so(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await publish(scene, resources, caller)
    origin = await ran(client, scene, published)
    answer = await create(client, published)
    hit = answer.json()
    assert (answer.status_code, answer.headers["millrace-cache"]) == (201, "hit")
    assert (hit["status"], hit["output"], hit["error"]) == ("succeeded", "hello", None)
    assert hit["cache"] == {"hit": True, "prediction": origin}
    assert hit["id"] != origin
    assert hit["metrics"]["predict_time"] == 0
    assert hit["completed_at"] >= hit["created_at"]
    assert (await client.get(f"/v1/predictions/{hit['id']}")).json() == hit
    async with resources.database.autocommit() as tx:
        for table in (UsageRecord, LedgerEntry):
            column = table.cause_id if table is UsageRecord else table.usage_record_id
            charged = select(func.count()).select_from(table).where(column.contains(hit["id"]))
            assert await tx.scalar(charged) == 0
    assert (await queue.standing(resources.redis, published.target, caller.id, hit["id"])).ahead is None


async def test_the_order_of_an_input_does_not_matter_and_its_values_do(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await publish(scene, resources, caller)
    first = {"version": published.version, "input": {"text": "Ada", "steps": 7}}
    id = (await client.post("/v1/predictions", json=first, headers=ALLOW)).json()["id"]
    await scene.finish(await scene.start(id), "hello")
    for input, status in (
        ({"steps": 7, "text": "Ada"}, "succeeded"),
        ({"steps": "7", "text": "Ada", "unknown": 1}, "succeeded"),
        ({"steps": 8, "text": "Ada"}, "starting"),
        ({"text": "Ada"}, "starting"),
    ):
        body = {"version": published.version, "input": input}
        assert (await client.post("/v1/predictions", json=body, headers=ALLOW)).json()["status"] == status, input


async def test_only_who_asks_is_given_an_earlier_result(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await publish(scene, resources, caller)
    await ran(client, scene, published)
    body = {"version": published.version, "input": {"text": "Ada"}}
    answer = await client.post("/v1/predictions", json=body)
    assert (answer.json()["status"], "millrace-cache" in answer.headers) == ("starting", False)


async def test_a_version_that_does_not_allow_it_runs_each_time(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    await ran(client, scene, published)
    assert (await create(client, published)).json()["status"] == "starting"


async def test_nobody_is_given_anothers_result(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await publish(scene, resources, caller)
    await ran(client, scene, published)
    assert (await create(stranger, published)).json()["status"] == "starting"


@pytest.mark.parametrize("status", [PredictionStatus.FAILED, PredictionStatus.CANCELED])
async def test_only_success_is_used_again(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources, status: PredictionStatus
) -> None:
    published = await publish(scene, resources, caller)
    id = (await create(client, published)).json()["id"]
    error = "No." if status == PredictionStatus.FAILED else None
    await scene.finish(await scene.start(id), "half", status=status, error=error)
    assert (await create(client, published)).json()["status"] == "starting"


async def test_removed_data_is_not_given_again_and_a_hit_never_stands_for_its_origin(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await publish(scene, resources, caller)
    origin = await ran(client, scene, published)
    hits = [(await create(client, published)).json() for _ in range(2)]
    assert [hit["cache"]["prediction"] for hit in hits] == [origin, origin]
    removed = update(Prediction).where(Prediction.id == origin).values(data_removed=True, output=None)
    async with resources.database.autocommit() as tx:
        await tx.execute(removed)
    assert (await create(client, published)).json()["status"] == "starting"


async def test_a_hit_shows_the_same_files_and_owes_its_webhook(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await publish(scene, resources, caller, FILES)
    id = (await create(client, published)).json()["id"]
    row = await scene.start(id)
    _, reference = await scene.output_file(row, b"bytes")
    await scene.finish(row, [reference])
    hit = (await create(client, published, webhook="https://example.com/hook")).json()
    assert hit["output"] == (await client.get(f"/v1/predictions/{id}")).json()["output"]
    async with resources.database.autocommit() as tx:
        owed = select(WebhookDelivery.status).where(WebhookDelivery.prediction_id == hit["id"])
        assert await tx.scalar(owed) == "pending"
    async with client.stream("GET", hit["urls"]["stream"]) as listening:
        events = (await listening.aread()).decode()
    assert events.rstrip().endswith("data: {}")
    assert events.count("event: output") == 1


async def test_a_hit_can_be_waited_for_and_is_replayed_by_its_key(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await publish(scene, resources, caller)
    await ran(client, scene, published)
    body = {"version": published.version, "input": {"text": "Ada"}}
    headers = ALLOW | {"Prefer": "wait=5", "Idempotency-Key": "order-7"}
    first, again = [await client.post("/v1/predictions", json=body, headers=headers) for _ in range(2)]
    assert first.json()["output"] == "hello"
    assert again.content == first.content
