"""`Prefer: wait` and `Cancel-After`."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from api.prefer import LONGEST_HOLD_SECONDS, deadline_seconds, hold_seconds
from core.errors import InvalidInput
from core.lifecycle import PredictionStatus
from core.settings import Settings
from tests.api.conftest import client_of
from tests.api.scene import Caller, Published, Scene
from tests.support.api_process import running_api


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("", None),
        ("respond-async", None),
        ("waiting", None),
        ("wait=soon", None),
        ("wait", LONGEST_HOLD_SECONDS),
        ("wait=5", 5.0),
        ("wait=300", LONGEST_HOLD_SECONDS),
        ("wait=60", LONGEST_HOLD_SECONDS),
        ("wait=0", 0.0),
        ("respond-async, wait=7", 7.0),
        ("wait; x=1", LONGEST_HOLD_SECONDS),
    ],
)
def test_the_answer_is_held_no_longer_than_clients_wait(prefer: str | None, seconds: float | None) -> None:
    assert hold_seconds(prefer) == seconds


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, None), ("", None), ("5", 5), ("90s", 90), ("1h30m45s", 5445), ("2m", 120), ("24h", 86400), (" 5s ", 5)],
)
def test_deadlines_are_durations(given: str | None, seconds: float | None) -> None:
    assert deadline_seconds(given) == seconds


@pytest.mark.parametrize("given", ["4s", "25h", "1d", "-5s", "soon", "5 s", "1.5m", "m", "9999999s", "5s\n5s"])
def test_other_deadlines_are_refused(given: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        deadline_seconds(given)
    assert refused.value.fields[0].field == "Cancel-After"


async def test_a_deadline_that_is_none_is_refused_by_name(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    answer = await ask(client, await scene.publish(caller), {"Cancel-After": "soon"})
    assert answer.status_code == 422
    assert answer.json()["invalid_fields"][0]["field"] == "Cancel-After"


async def test_the_answer_comes_when_the_prediction_ends(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    asking = asyncio.create_task(ask(client, await scene.publish(caller), {"Prefer": "wait"}))
    row = await scene.start(await only_id(client))
    await scene.finish(row, "hello Ada")
    answer = await asking
    assert (answer.status_code, answer.headers["preference-applied"]) == (201, "wait")
    assert (answer.json()["status"], answer.json()["output"]) == ("succeeded", "hello Ada")
    assert answer.json()["metrics"]["predict_time"] == 0.25


@pytest.mark.parametrize("status", [PredictionStatus.FAILED, PredictionStatus.CANCELED])
async def test_a_bad_end_is_an_answer_too(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, status: PredictionStatus
) -> None:
    asking = asyncio.create_task(ask(client, await scene.publish(caller), {"Prefer": "wait=10"}))
    await scene.finish(await scene.start(await only_id(client)), status=status, error="why")
    answer = await asking
    assert (answer.status_code, answer.json()["status"]) == (201, status)


async def test_when_time_runs_out_it_is_starting_even_if_it_runs(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    """Every client takes any other status for the final answer, and a half-written output for the whole."""
    asking = asyncio.create_task(ask(client, await scene.publish(caller), {"Prefer": "wait=1"}))
    row = await scene.start(await only_id(client))
    await scene.write(row, "hel", "")
    answer = await asking
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    assert answer.headers["location"] == answer.json()["urls"]["get"]
    assert (answer.json()["status"], answer.json()["output"], answer.json()["started_at"]) == ("starting", None, None)
    assert (await client.get(f"/v1/predictions/{row.id}")).json()["status"] == "processing"


async def test_many_may_wait_at_once(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    asking = [asyncio.create_task(ask(client, published, {"Prefer": "wait"})) for _ in range(12)]
    for id in await waiting_ids(client, len(asking)):
        await scene.finish(await scene.start(id), id)
    for answer in await asyncio.gather(*asking):
        assert answer.json()["output"] == answer.json()["id"]


async def ask(client: httpx.AsyncClient, published: Published, headers: dict[str, str]) -> httpx.Response:
    body = {"version": published.version, "input": {"text": "Ada"}}
    return await client.post("/v1/predictions", json=body, headers=headers)


async def only_id(client: httpx.AsyncClient) -> str:
    [id] = await waiting_ids(client, 1)
    return id


async def waiting_ids(client: httpx.AsyncClient, count: int) -> list[str]:
    """Once so many are there."""
    for _ in range(500):
        ids = [item["id"] for item in (await client.get("/v1/predictions")).json()["results"]]
        if len(ids) == count:
            return ids
        await asyncio.sleep(0.02)
    raise AssertionError(f"There are no {count} predictions.")


async def test_who_is_held_when_the_process_must_end_is_answered_now(
    settings: Settings, scene: Scene, caller: Caller, tmp_path: Path
) -> None:
    published = await scene.publish(caller)
    async with (
        running_api(settings, tmp_path / "api.log") as process,
        client_of(process.settings, caller.token) as client,
    ):
        asking = asyncio.create_task(ask(client, published, {"Prefer": "wait=20"}))
        id = await only_id(client)
        process.process.send(signal.SIGTERM)
        answer = await asking
    assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (202, id, "starting")
