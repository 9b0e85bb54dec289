"""The files that models return: who may have them, and how they stand in a prediction."""

import base64

import httpx
import pytest

from core.settings import Settings
from tests.api.conftest import client_of
from tests.api.scene import FILES, Caller, Scene
from tests.api.serving import serving


async def finished_with_file(client: httpx.AsyncClient, scene: Scene, caller: Caller, **file: str) -> tuple[dict, str]:
    """A prediction that returned two files, and the id of the first."""
    published = await scene.publish(caller, FILES)
    created = (await client.post("/v1/predictions", json={"version": published.version, "input": {"text": "x"}})).json()
    row = await scene.start(created["id"])
    one_id, one = await scene.output_file(row, b"small", **file)
    _, two = await scene.output_file(row, b"x" * 4096, "a b/\u00e9.png")
    await scene.finish(row, [one, two])
    return (await client.get(f"/v1/predictions/{created['id']}")).json(), one_id


@pytest.fixture(scope="module")
def with_urls(settings: Settings):
    """An api that gives files as URLs."""
    with serving(settings.model_copy(update={"file_outputs": "url"})) as served:
        yield served


async def test_without_https_small_files_are_data_uris(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    """Only `https:` and `data:` strings become files in official clients."""
    shown, _ = await finished_with_file(client, scene, caller)
    expected = [f"data:image/png;base64,{base64.b64encode(content).decode()}" for content in (b"small", b"x" * 4096)]
    assert shown["output"] == expected
    assert (await client.get("/v1/predictions")).json()["results"][0]["output"][0].startswith("http")


async def test_files_over_the_limit_are_urls(
    settings: Settings, scene: Scene, caller: Caller, client: httpx.AsyncClient
) -> None:
    shown, _ = await finished_with_file(client, scene, caller)
    with serving(settings.model_copy(update={"inline_file_bytes": 5})) as served:
        async with client_of(served, caller.token) as other:
            again = (await other.get(f"/v1/predictions/{shown['id']}")).json()
    assert [uri.split(":")[0] for uri in again["output"]] == ["data", "http"]


async def test_a_file_url_needs_no_token_and_minds_none(with_urls: Settings, scene: Scene, caller: Caller) -> None:
    async with client_of(with_urls, caller.token) as client:
        shown, _ = await finished_with_file(client, scene, caller)
    one, two = shown["output"]
    assert one.startswith(f"{with_urls.url}/v1/outputs/")
    assert two.endswith("/a%20b/%C3%A9.png")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {caller.token}"}):
        async with httpx.AsyncClient(verify=False, trust_env=False) as anybody:
            answer = await anybody.get(one, headers=headers)
            assert (answer.status_code, answer.content) == (200, b"small")
            assert (await anybody.get(two, headers=headers)).content == b"x" * 4096
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "public,max-age=3600"


async def test_the_id_of_an_output_is_its_secret(
    api: Settings, client: httpx.AsyncClient, anonymous: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    shown, id = await finished_with_file(client, scene, caller)
    assert len(id) == 40
    for path in (f"/v1/outputs/{'0' * 40}/output.png", f"/v1/outputs/{shown['id']}/output.png", "/v1/outputs/../x"):
        assert (await anonymous.get(path)).status_code == 404
    # An output is no upload: neither of the other doors leads to it.
    assert (await client.get(f"/v1/files/{id}")).status_code == 404
    upload = (await client.post("/v1/files", files={"content": ("a", b"a")})).json()
    assert (await anonymous.get(f"/v1/outputs/{upload['id']}/a")).status_code == 404


async def test_what_a_model_calls_its_file_cannot_break_the_answer(
    with_urls: Settings, scene: Scene, caller: Caller
) -> None:
    async with client_of(with_urls, caller.token) as client:
        for kind in ("text/html\r\nX-Evil: 1", "\u0442\u0435\u043a\u0441\u0442", "text/html"):
            shown, _ = await finished_with_file(client, scene, caller, content_type=kind)
            answer = await client.get(shown["output"][0])
            assert (answer.status_code, answer.content) == (200, b"small")
            assert "x-evil" not in answer.headers
            assert answer.headers["content-security-policy"].startswith("sandbox")
