"""Predictions over HTTP: create, get, list, cancel."""

import base64
import os
import re

import httpx
import pytest

from api.pagination import PAGE_SIZE
from core.lifecycle import PredictionStatus
from core.resources import Resources
from core.settings import Settings
from tests.api.rows import insert_predictions
from tests.api.scene import CHUNKS, FILES, Caller, Scene

ID = re.compile(r"^[a-z0-9]{26}$")
MOMENT = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


@pytest.mark.parametrize("form", ["{version}", "{model}:{version}", "{model}"])
async def test_a_version_may_be_named_in_three_forms(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, form: str
) -> None:
    published = await scene.publish(caller)
    version = form.format(version=published.version, model=published.model)
    answer = await client.post("/v1/predictions", json={"version": version, "input": {"text": "Ada"}})
    assert answer.status_code == 201
    assert (answer.json()["model"], answer.json()["version"]) == (published.model, published.version)


async def test_a_model_runs_its_latest_version(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    latest = await scene.add_version(caller, published)
    answer = await client.post(f"/v1/models/{published.model}/predictions", json={"input": {"text": "Ada"}})
    assert answer.status_code == 201
    assert answer.json()["version"] == latest != published.version


async def test_a_new_prediction_has_the_documented_shape(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    request = {
        "version": published.version,
        "input": {"text": "Ada", "unknown": 1},
        "webhook": "https://example.com/hook?x=1",
        "webhook_events_filter": ["start", "completed"],
    }
    created = (await client.post("/v1/predictions", json=request, headers={"Cancel-After": "1m30s"})).json()
    base = f"{api.url}/v1/predictions/{created['id']}"
    assert ID.match(created["id"])
    assert MOMENT.match(created["created_at"])
    assert MOMENT.match(created["deadline"])
    assert created == {
        "id": created["id"],
        "model": published.model,
        "version": published.version,
        "input": {"text": "Ada"},
        "output": None,
        "logs": "",
        "error": None,
        "status": "starting",
        "data_removed": False,
        "source": "api",
        "created_at": created["created_at"],
        "started_at": None,
        "completed_at": None,
        "deadline": created["deadline"],
        "metrics": {},
        "urls": {"get": base, "cancel": f"{base}/cancel", "web": f"{api.url}/p/{created['id']}"},
        "webhook": "https://example.com/hook?x=1",
        "webhook_events_filter": ["start", "completed"],
        "queue": {"position": None, "reason": None, "estimated_seconds": None},
    }
    next_in_line = {"queue": {"position": 0, "reason": None, "estimated_seconds": None}}
    assert (await client.get(f"/v1/predictions/{created['id']}")).json() == created | next_in_line


@pytest.mark.parametrize(("output", "folder"), [(CHUNKS, "/v1/streams/"), (FILES, "/v1/files/streams/")])
async def test_only_a_model_that_streams_has_a_stream_url(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, output: dict, folder: str
) -> None:
    created = await create(client, (await scene.publish(caller, output)).version)
    assert created["urls"]["stream"].startswith(f"{api.url}{folder}")


async def test_a_finished_prediction_says_how_long_it_took(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    created = await create(client, (await scene.publish(caller)).version)
    await scene.finish(await scene.start(created["id"]), "hello Ada", micros=123_000, logs="said it\n")
    shown = (await client.get(f"/v1/predictions/{created['id']}")).json()
    assert (shown["status"], shown["output"], shown["logs"], shown["error"]) == (
        "succeeded",
        "hello Ada",
        "said it\n",
        None,
    )
    assert MOMENT.match(shown["started_at"])
    assert MOMENT.match(shown["completed_at"])
    assert shown["metrics"]["predict_time"] == 0.123
    assert shown["metrics"]["total_time"] >= shown["metrics"]["queue_time"] >= 0


async def test_a_failed_prediction_says_why(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    created = await create(client, (await scene.publish(caller)).version)
    await scene.finish(await scene.start(created["id"]), status=PredictionStatus.FAILED, error="It broke")
    shown = (await client.get(f"/v1/predictions/{created['id']}")).json()
    assert (shown["status"], shown["error"], shown["logs"]) == ("failed", "It broke", "")


async def test_partial_output_is_shown_while_it_runs(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    """Python 2.x streams by polling."""
    created = await create(client, (await scene.publish(caller, CHUNKS)).version)
    row = await scene.start(created["id"])
    await scene.write(row, ["one ", "two"], "log\n")
    shown = (await client.get(f"/v1/predictions/{created['id']}")).json()
    assert (shown["status"], shown["output"], shown["logs"]) == ("processing", ["one ", "two"], "log\n")


async def test_aborted_is_canceled_on_the_wire(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    """Python 1.x raises on a status it does not know, and the others wait for ever."""
    published = await scene.publish(caller)
    [id] = await insert_predictions(resources, caller, published, 1, status=PredictionStatus.ABORTED)
    assert (await client.get(f"/v1/predictions/{id}")).json()["status"] == "canceled"
    assert (await client.get("/v1/predictions")).json()["results"][0]["status"] == "canceled"


def _incompressible(size: int) -> str:
    return base64.b64encode(os.urandom(size)).decode()


@pytest.mark.parametrize(
    ("field", "text", "sizes"),
    [
        ("input", _incompressible(5_000_000), [2, 1]),
        ("output", _incompressible(13_000_000), [1, 1, 1]),
        ("output", "a" * 20_000_000, [2, 1]),
    ],
    ids=["a few megabytes", "more than a page", "well compressed"],
)
async def test_a_page_of_long_predictions_has_fewer_and_the_next_one_goes_on(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources, field: str, text: str, sizes: list
) -> None:
    values = {field: {"text": text} if field == "input" else text}
    ids = await insert_predictions(resources, caller, await scene.publish(caller), 3, **values)
    pages, url = [], "/v1/predictions"
    while url:
        page = (await client.get(url)).json()
        assert all(item[field] == values[field] for item in page["results"])
        pages.append([item["id"] for item in page["results"]])
        url = page["next"]
    assert [id for page in pages for id in page] == ids[::-1]
    assert [len(page) for page in pages] == sizes


# --- cancelling -------------------------------------------------------------------------------------------------------


async def test_canceling_a_waiting_prediction_ends_it_at_once_and_free_of_charge(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    created = await create(client, (await scene.publish(caller)).version)
    answer = await client.post(f"/v1/predictions/{created['id']}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"] == "canceled"
    assert MOMENT.match(answer.json()["completed_at"])
    assert "predict_time" not in answer.json()["metrics"]
    assert (await client.get("/v1/account/usage")).json()["total_nanos"] == 0


async def test_canceling_what_has_ended_changes_nothing(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    created = await create(client, (await scene.publish(caller)).version)
    await scene.finish(await scene.start(created["id"]), "hello Ada")
    before = (await client.get(f"/v1/predictions/{created['id']}")).json()
    answer = await client.post(f"/v1/predictions/{created['id']}/cancel")
    assert (answer.status_code, answer.json()) == (200, before)


async def test_canceling_a_running_prediction_asks_its_runner(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    created = await create(client, (await scene.publish(caller)).version)
    row = await scene.start(created["id"])
    answer = await client.post(f"/v1/predictions/{created['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "processing")
    assert await scene.asked_to_cancel(row) == [created["id"]]


async def test_nobody_else_may_see_or_cancel_it(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    id = (await create(client, (await scene.publish(caller)).version))["id"]
    for answer in (await stranger.get(f"/v1/predictions/{id}"), await stranger.post(f"/v1/predictions/{id}/cancel")):
        assert answer.status_code == 404
        assert answer.json()["detail"] == "The requested prediction could not be found."
    assert (await stranger.get("/v1/predictions")).json()["results"] == []
    assert (await client.get(f"/v1/predictions/{id}")).json()["status"] == "starting"


# --- listing ----------------------------------------------------------------------------------------------------------


async def test_pages_follow_each_other_without_gap_or_overlap(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    inserted = await insert_predictions(resources, caller, published, 2 * PAGE_SIZE + 3)
    sizes, seen, url = [], [], f"{api.url}/v1/predictions"
    while url:
        page = (await client.get(url)).json()
        assert set(page) == {"next", "previous", "results"}
        assert page["previous"] is None
        sizes.append(len(page["results"]))
        seen += [item["id"] for item in page["results"]]
        url = page["next"]
        assert url is None or url.startswith(f"{api.url}/v1/predictions?cursor=")
    assert sizes == [PAGE_SIZE, PAGE_SIZE, 3]
    assert seen == inserted[::-1]


async def test_listed_predictions_have_no_logs(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    created = await create(client, (await scene.publish(caller)).version)
    [listed] = (await client.get("/v1/predictions")).json()["results"]
    del created["logs"]
    assert listed == created


async def test_moments_bound_the_list_and_stay_in_the_next_link(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    ids = await insert_predictions(resources, caller, published, PAGE_SIZE + 10)
    moments = {id: (await client.get(f"/v1/predictions/{id}")).json()["created_at"] for id in (ids[2], ids[-2])}
    bounds = {"created_after": moments[ids[2]], "created_before": moments[ids[-2]]}
    first = (await client.get("/v1/predictions", params=bounds)).json()
    second = (await client.get(first["next"])).json()
    seen = [item["id"] for item in first["results"] + second["results"]]
    assert seen == ids[2:-2][::-1]


async def test_source_web_leaves_out_what_the_api_made(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    await insert_predictions(resources, caller, published, 1)
    [web] = await insert_predictions(resources, caller, published, 1, source="web")
    results = (await client.get("/v1/predictions", params={"source": "web"})).json()["results"]
    assert [item["id"] for item in results] == [web]


@pytest.mark.parametrize("cursor", ["nonsense", "bnVsbA==", "WyJhIl0=", "WzEsMl0=", "é"])
async def test_a_cursor_that_is_not_ours_is_a_bad_request(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get("/v1/predictions", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["title"]) == (400, "Bad request")


async def create(client: httpx.AsyncClient, version: str) -> dict:
    answer = await client.post("/v1/predictions", json={"version": version, "input": {"text": "Ada"}})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_secret_input_is_kept_for_the_model_and_shown_to_nobody(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada", "key": "hunter2"}}
    created = await client.post("/v1/predictions", json=body)
    shown = await client.get(f"/v1/predictions/{created.json()['id']}")
    listed = await client.get("/v1/predictions")
    started = await scene.start(created.json()["id"])
    assert [answer for answer in (created, shown, listed) if "hunter2" in answer.text] == []
    assert shown.json()["input"] == {"text": "Ada", "key": "**********"}
    assert started.input == {"text": "Ada", "key": "hunter2"}
