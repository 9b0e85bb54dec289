"""What goes wrong is told as application/problem+json with a string `detail`, whatever it is."""

import httpx
import pytest

from core.settings import Settings
from tests.api.scene import Caller, Scene


def problem(answer: httpx.Response, status: int) -> dict:
    """The body, if it has the shape that Swift and Go can decode."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert isinstance(body["title"], str)
    assert isinstance(body["detail"], str)
    assert body["status"] == status
    return body


# --- who is asking ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic dXNlcjpwYXNz", "nonsense"])
async def test_without_a_token_one_is_asked_for(anonymous: httpx.AsyncClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = await anonymous.get("/v1/account", headers=headers)
    body = problem(answer, 401)
    assert body["title"] == "Unauthenticated"
    assert body["detail"].startswith("You did not pass an authentication token.")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("token", ["mr_0000", "r8_\u00e9", "x" * 5000])
async def test_an_unknown_token_is_called_invalid(anonymous: httpx.AsyncClient, token: str) -> None:
    answer = await anonymous.get("/v1/hardware", headers={"Authorization": f"Bearer {token}".encode()})
    assert problem(answer, 401)["detail"].startswith("You did not pass a valid authentication token")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Token", "TOKEN"])
async def test_both_schemes_are_taken_in_any_case(anonymous: httpx.AsyncClient, caller: Caller, scheme: str) -> None:
    answer = await anonymous.get("/v1/account", headers={"Authorization": f"{scheme} {caller.token}"})
    assert answer.json()["username"] == caller.username


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/predictions"),
        ("POST", "/v1/predictions"),
        ("GET", "/v1/predictions/x"),
        ("POST", "/v1/predictions/x/cancel"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/a/b"),
        ("POST", "/v1/models/a/b/predictions"),
        ("GET", "/v1/models/a/b/versions"),
        ("GET", "/v1/models/a/b/versions/x"),
        ("GET", "/v1/account"),
        ("GET", "/v1/account/usage"),
        ("GET", "/v1/hardware"),
        ("GET", "/v1/webhooks/default/secret"),
        ("GET", "/v1/files"),
        ("POST", "/v1/files"),
        ("GET", "/v1/files/x"),
        ("DELETE", "/v1/files/x"),
    ],
)
async def test_every_operation_needs_a_token(anonymous: httpx.AsyncClient, method: str, path: str) -> None:
    assert problem(await anonymous.request(method, path), 401)["title"] == "Unauthenticated"


# --- where, and how ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/v2/predictions", "/v1/predictions/x/y", "/v1/../etc/passwd", "/v1/v1/v1/account"]
)
async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert problem(await client.get(path), 404)["title"] == "Not found"


@pytest.mark.parametrize("path", ["/v1/predictions/a%00b", "/v1/files/a%00b", "/v1/models/a%00/b", "/v1/models/%ff/b"])
async def test_names_that_cannot_exist_are_not_found_or_refused(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code in (404, 422)
    problem(answer, answer.status_code)


async def test_no_call_is_redirected(client: httpx.AsyncClient) -> None:
    """Python 1.x follows no redirect, and a location built from the request's host is whoever's who sent it."""
    answer = await client.get("/v1/account/", headers={"Host": "elsewhere.example"})
    assert (answer.status_code, "location" in answer.headers) == (404, False)


async def test_a_method_that_a_path_lacks_is_named_so(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/v1/account")
    assert problem(answer, 405)["title"] == "Method not allowed"
    assert answer.headers["allow"] == "GET"
    answer = await client.put("/v1/predictions")
    assert problem(answer, 405)["detail"] == "/v1/predictions does not take PUT, but GET, POST."
    assert answer.headers["allow"] == "GET, POST"


async def test_a_body_over_the_limit_is_refused(api: Settings, client: httpx.AsyncClient) -> None:
    body = b'{"version": "x", "input": {"text": "' + b"x" * api.body_bytes + b'"}}'
    answer = await client.post("/v1/predictions", content=body, headers={"Content-Type": "application/json"})
    assert str(api.body_bytes) in problem(answer, 413)["detail"]


async def test_a_model_named_files_takes_no_larger_bodies(api: Settings, client: httpx.AsyncClient) -> None:
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = await client.patch("/v1/models/me/files", content=b"x" * (api.body_bytes + 1), headers=multipart)
    assert str(api.body_bytes) in problem(answer, 413)["detail"]


async def test_a_body_as_large_as_ten_megabytes_in_base64_is_taken(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    answer = await client.post(
        "/v1/predictions", json={"version": published.version, "input": {"text": "x" * 14_000_000}}
    )
    assert answer.status_code == 201


# --- bodies -----------------------------------------------------------------------------------------------------------

BROKEN = {
    "cut off": b'{"version": "x", "input": {',
    "not JSON": b"hello",
    "trailing comma": b'{"version": "x", "input": {},}',
    "NaN": b'{"version": "x", "input": {"scale": NaN}}',
    "lone surrogate": rb'{"version": "x", "input": {"text": "\ud800"}}',
    "not UTF-8": b'{"version": "x", "input": {"text": "\xff"}}',
    "nested too deeply": b'{"version": "x", "input": {"text": ' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
async def test_broken_json_is_a_bad_request(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/predictions", content=body, headers={"Content-Type": "application/json"})
    assert problem(answer, 400)["detail"] == "The body is not valid JSON."


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"])
async def test_a_body_of_another_type_is_refused_with_a_hint(client: httpx.AsyncClient, kind: str) -> None:
    """`curl -d` without a header calls JSON a form."""
    answer = await client.post("/v1/predictions", content=b'{"version": "x"}', headers={"Content-Type": kind})
    assert problem(answer, 415)["detail"] == "Send the body as application/json."


async def test_the_type_of_no_body_is_ignored(client: httpx.AsyncClient) -> None:
    """JavaScript says application/json on GET, too."""
    answer = await client.get("/v1/account", headers={"Content-Type": "application/json"})
    assert answer.status_code == 200


async def fields_of(client: httpx.AsyncClient, body: object) -> list[tuple[str, str]]:
    found = problem(await client.post("/v1/predictions", json=body), 422)
    assert found["title"] == "Input validation failed"
    lines = "".join(
        f"- {item['field']}: {item['description']}\n" if item["field"] else f"- {item['description']}\n"
        for item in found["invalid_fields"]
    )
    assert found["detail"] == lines
    return sorted((item["type"], item["field"]) for item in found["invalid_fields"])


async def test_every_missing_and_unknown_top_level_key_is_named(client: httpx.AsyncClient) -> None:
    assert await fields_of(client, {"verison": "x", "stream": "yes", "webhook": "ftp://x"}) == [
        ("additional_property_not_allowed", ""),
        ("format", "webhook"),
        ("invalid_type", "stream"),
        ("required", ""),
        ("required", ""),
    ]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ([], [("invalid_type", "")]),
        ("text", [("invalid_type", "")]),
        ({"version": 1, "input": []}, [("invalid_type", "input"), ("invalid_type", "version")]),
        (
            {"version": "x", "input": {}, "webhook_events_filter": ["start", "end"]},
            [("enum", "webhook_events_filter.1")],
        ),
        ({"version": "x", "input": {}, "webhook": "https://x/" + "x" * 5000}, [("string_lte", "webhook")]),
        ({"version": "", "input": {}}, [("string_gte", "version")]),
    ],
)
async def test_a_body_of_the_wrong_shape_is_named_field_by_field(
    client: httpx.AsyncClient, body: object, fields: list
) -> None:
    assert await fields_of(client, body) == fields


async def test_no_body_at_all_is_named(client: httpx.AsyncClient) -> None:
    body = problem(await client.post("/v1/predictions"), 422)
    assert body["invalid_fields"] == [{"type": "required", "field": "", "description": "A JSON body is required"}]


async def test_every_failing_input_is_named(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    published = await scene.publish(caller)
    input = {"count": 11, "size": "huge", "image": "/etc/passwd", "scale": "wide", "unknown": 1}
    assert await fields_of(client, {"version": published.version, "input": input}) == [
        ("enum", "input.size"),
        ("format", "input.image"),
        ("invalid_type", "input.scale"),
        ("number_lte", "input.count"),
        ("required", "input"),
    ]


@pytest.mark.parametrize(
    "version", ["0" * 64, "nobody/nothing", "nobody/nothing:latest", "{model}:latest", "a:b:c/d", "/"]
)
async def test_a_version_that_does_not_exist_is_invalid(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, version: str
) -> None:
    published = await scene.publish(caller)
    body = {"version": version.format(model=published.model), "input": {}}
    assert problem(await client.post("/v1/predictions", json=body), 422)["title"] == "Invalid version or not permitted"


async def test_a_model_that_cannot_run_is_told_from_one_that_is_not_there(
    client: httpx.AsyncClient, caller: Caller, scene: Scene
) -> None:
    body = {"input": {"text": "Ada"}}
    nowhere = await client.post(f"/v1/models/{caller.username}/nothing/predictions", json=body)
    assert problem(nowhere, 404)["detail"] == "The requested model could not be found."
    await scene.publish(caller)
    new = {"owner": caller.username, "name": "empty", "visibility": "private", "hardware": "cpu"}
    assert (await client.post("/v1/models", json=new)).status_code == 201
    empty = await client.post(f"/v1/models/{caller.username}/empty/predictions", json=body)
    assert "has no version yet" in problem(empty, 422)["detail"]


async def test_a_private_version_of_somebody_else_does_not_exist(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller, visibility="private")
    for version in (published.version, published.model, f"{published.model}:{published.version}"):
        body = {"version": version, "input": {"text": "Ada"}}
        assert (await client.post("/v1/predictions", json=body)).status_code == 201
        assert problem(await stranger.post("/v1/predictions", json=body), 422)["status"] == 422
    answer = await stranger.post(f"/v1/models/{published.model}/predictions", json={"input": {"text": "Ada"}})
    assert answer.status_code in (404, 422)


# --- values that are hard to keep -------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", [None, {"title": "Output", "type": "string"}], ids=["unprepared", "prepared"])
@pytest.mark.parametrize("value", ["a\x00b", {"a\x00": 1}, ["\x00"]], ids=["text", "key", "list"])
async def test_a_nul_character_is_refused_by_name(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, output: dict | None, value: object
) -> None:
    published = await scene.publish(caller, output)
    body = {"version": published.version, "input": {"text": "Ada", "anything": value}}
    assert await fields_of(client, body) == [("format", "input.anything")]


@pytest.mark.parametrize("depth", [198, 199, 300, 1000])
async def test_what_is_taken_nested_can_be_shown_everywhere(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, depth: int
) -> None:
    published = await scene.publish(caller)
    nested = '{"a":' * (depth // 2) + "[" * (depth - depth // 2) + "]" * (depth - depth // 2) + "}" * (depth // 2)
    body = f'{{"version": "{published.version}", "input": {{"text": "Ada", "anything": {nested}}}}}'
    answer = await client.post("/v1/predictions", content=body, headers={"Content-Type": "application/json"})
    if depth <= 198:
        assert answer.status_code == 201
        assert len((await client.get("/v1/predictions")).json()["results"]) == 1
    else:
        assert problem(answer, 400)["detail"] == "The body is nested more than 200 levels deep."


async def test_a_text_that_only_looks_like_an_escape_is_kept(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    text = "\\u0000 \u2028 \U0001f600 \x7f é"
    answer = await client.post("/v1/predictions", json={"version": published.version, "input": {"text": text}})
    assert answer.status_code == 201
    assert answer.json()["input"] == {"text": text}


@pytest.mark.parametrize(
    ("field", "literal"),
    [("steps", "1e300"), ("steps", "9" * 40), ("steps", '"%s"' % ("9" * 40)), ("scale", "1e999"), ("scale", '"nan"')],
)
async def test_numbers_beyond_all_bounds_are_a_clients_mistake(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, field: str, literal: str
) -> None:
    published = await scene.publish(caller)
    body = f'{{"version": "{published.version}", "input": {{"text": "Ada", "{field}": {literal}}}}}'
    answer = await client.post("/v1/predictions", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (201, 400, 422), answer.text
