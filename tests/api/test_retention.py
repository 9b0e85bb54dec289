"""How a prediction looks once its data has been removed: all there, or all gone, and never in between."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from core import retention
from core.database import seconds_from_now
from core.ids import new_id
from core.lifecycle import PredictionStatus
from core.resources import Resources
from core.tables import Prediction
from tests.api.scene import FILES, TEXT, Caller, Scene

SECRET = "the value of a secret"


async def ended(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, output: dict[str, Any] = TEXT, **outcome: Any
) -> str:
    published = await scene.publish(caller, output)
    body = {"version": published.version, "input": {"text": "Ada", "key": SECRET}}
    created = (await client.post("/v1/predictions", json=body)).json()
    row = await scene.start(created["id"])
    value = [(await scene.output_file(row, b"content"))[1]] if output is FILES else "hello"
    await scene.say(row.id, value)
    await scene.finish(row, value, logs="a log\n", **outcome)
    return row.id


async def remove_data(resources: Resources, *prediction_ids: str) -> None:
    """What time and the purge do. The source is theirs alone, so that no other test's data go."""
    source = new_id()
    old = {"completed_at": seconds_from_now(-3600)}
    async with resources.database.transaction() as tx:
        theirs = update(Prediction).where(Prediction.id.in_(prediction_ids))
        await tx.execute(theirs.values(source=source, **old))
    async with resources.database.transaction() as tx:
        assert await retention.remove_expired(tx, source, 60, 100, retention.Walk()) == len(prediction_ids)
    async with resources.database.transaction() as tx:
        await tx.execute(theirs.values(source="api"))


async def test_removed_data_is_shown_as_removed_and_the_rest_as_it_was(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    id = await ended(client, scene, caller)
    before = (await client.get(f"/v1/predictions/{id}")).json()
    assert (before["data_removed"], before["output"], before["logs"]) == (False, "hello", "a log\n")
    await remove_data(resources, id)
    after = (await client.get(f"/v1/predictions/{id}")).json()
    changed = {"data_removed": True, "input": {}, "output": None, "logs": ""}
    moved = {"completed_at": after["completed_at"], "metrics": after["metrics"]}
    assert after == before | changed | moved
    assert after["metrics"]["predict_time"] == before["metrics"]["predict_time"]
    [listed] = (await client.get("/v1/predictions")).json()["results"]
    assert {name: after[name] for name in listed} == listed
    assert (await client.post(f"/v1/predictions/{id}/cancel")).json() == after


async def test_a_failure_says_why_for_ever(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    id = await ended(client, scene, caller, status=PredictionStatus.FAILED, error="It broke.")
    await remove_data(resources, id)
    after = (await client.get(f"/v1/predictions/{id}")).json()
    assert (after["status"], after["error"], after["output"]) == ("failed", "It broke.", None)


async def test_a_removed_file_is_not_found(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    id = await ended(client, scene, caller, FILES)
    [url] = (await client.get("/v1/predictions")).json()["results"][0]["output"]
    assert (await client.get(url)).content == b"content"
    await remove_data(resources, id)
    assert (await client.get(url)).status_code == 404


async def test_a_stream_of_removed_data_only_ends(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    id = await ended(client, scene, caller, FILES)
    url = (await client.get(f"/v1/predictions/{id}")).json()["urls"]["stream"]
    assert "event: output" in (await client.get(url)).text
    await remove_data(resources, id)
    told = (await client.get(url)).text
    assert "event: output" not in told
    assert "event: done" in told


async def test_an_idempotency_key_goes_on_standing_for_what_was_removed(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    request = {"json": {"version": published.version, "input": {"text": "Ada"}}, "headers": {"Idempotency-Key": "one"}}
    created = (await client.post("/v1/predictions", **request)).json()
    await scene.finish(await scene.start(created["id"]), "hello")
    await remove_data(resources, created["id"])
    again = (await client.post("/v1/predictions", **request)).json()
    assert (again["id"], again["data_removed"], again["input"]) == (created["id"], True, {})
    assert len((await client.get("/v1/predictions")).json()["results"]) == 1


@pytest.mark.parametrize("output", [TEXT, FILES])
async def test_whoever_looks_meanwhile_sees_all_of_it_or_that_it_was_removed(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources, output: dict[str, Any]
) -> None:
    ids = [await ended(client, scene, caller, output) for _ in range(4)]
    whole = {id: (await client.get(f"/v1/predictions/{id}")).json()["output"] for id in ids}
    removed: set[str] = set()

    async def look(id: str) -> None:
        while id not in removed:
            answer = await client.get(f"/v1/predictions/{id}")
            assert answer.status_code == 200
            shown = answer.json()
            data = (shown["output"], shown["logs"], shown["input"].get("text"))
            assert data == ((None, "", None) if shown["data_removed"] else (whole[id], "a log\n", "Ada"))
            if shown["data_removed"]:
                removed.add(id)

    async def remove() -> None:
        for id in ids:
            await asyncio.sleep(0.02)
            await remove_data(resources, id)

    await asyncio.wait_for(asyncio.gather(remove(), *(look(id) for id in ids)), 30)
    assert removed == set(ids)


async def test_a_secret_is_masked_after_its_end_and_no_longer_kept(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    id = await ended(client, scene, caller)
    shown = (await client.get(f"/v1/predictions/{id}")).json()
    assert shown["input"]["key"] == "**********"
    async with resources.database.autocommit() as tx:
        row = await tx.one(Prediction.__table__.select().where(Prediction.id == id))
    assert SECRET not in str(row)
