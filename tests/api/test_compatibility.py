"""What official clients send that no specification names, and where they send it."""

import httpx
import pytest

from core.settings import Settings
from tests.api.scene import Caller, Scene


async def test_stream_is_taken_and_ignored(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    version = (await scene.publish(caller)).version
    for stream in (True, False, None):
        body = {"version": version, "input": {"text": "Ada"}, "stream": stream}
        answer = await client.post("/v1/predictions", json=body)
        assert answer.status_code == 201
        assert "stream" not in answer.json()


async def test_webhook_completed_is_a_webhook_for_the_end_only(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    version = (await scene.publish(caller)).version
    body = {"version": version, "input": {"text": "Ada"}, "webhook_completed": "http://example.com/end"}
    created = (await client.post("/v1/predictions", json=body)).json()
    assert (created["webhook"], created["webhook_events_filter"]) == ("http://example.com/end", ["completed"])


async def test_unknown_inputs_are_dropped_and_optional_nulls_left_out(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    version = (await scene.publish(caller)).version
    body = {"version": version, "input": {"text": "Ada", "prompt": "x", "count": None, "image": None, "steps": "7"}}
    created = (await client.post("/v1/predictions", json=body)).json()
    assert created["input"] == {"text": "Ada", "steps": 7}


@pytest.mark.parametrize("prefix", ["/v1", "/v1/v1", ""])
async def test_the_api_is_there_under_every_base_url_that_clients_are_given(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller, prefix: str
) -> None:
    """Python 1.x adds /v1 to a base URL, Python 2.x does not; both read it from one variable."""
    published = await scene.publish(caller)
    body = {"version": published.version, "input": {"text": "Ada"}}
    created = await client.post(f"{prefix}/predictions", json=body)
    assert created.status_code == 201
    assert created.json()["urls"]["get"] == f"{api.url}/v1/predictions/{created.json()['id']}"
    upload = await client.post(f"{prefix}/files", files={"content": ("a.txt", b"a")})
    assert upload.status_code == 201
    for path in (
        f"/predictions/{created.json()['id']}",
        "/predictions",
        f"/models/{published.model}",
        "/hardware",
        "/account",
        f"/files/{upload.json()['id']}",
    ):
        assert (await client.get(prefix + path)).status_code == 200, path


async def test_the_health_of_the_api_needs_no_token(anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_without_a_token_what_is_not_under_v1_is_no_call_of_the_api(anonymous: httpx.AsyncClient) -> None:
    assert (await anonymous.get("/predictions")).status_code == 404
    assert (await anonymous.get("/v1/predictions")).status_code == 401


async def test_go_may_put_its_base_url_before_a_whole_one(api: Settings, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/v1/{api.url}/v1/predictions?created_after=2020-01-01T00:00:00Z")
    assert (answer.status_code, answer.json()["results"]) == (200, [])
