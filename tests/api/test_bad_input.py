"""Whatever a client sends, the answer is a documented 4xx, and the process is no larger for it afterwards."""

import time
from collections.abc import Iterator

import httpx
import pytest

from core import files, wire
from core.resources import Resources
from core.settings import Settings
from tests.api.conftest import UPLOAD_BYTES, client_of
from tests.api.scene import Caller, Scene
from tests.api.test_errors import problem
from tests.support.api_process import ApiProcess

MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}
INPUT = b'{"version": "%b", "input": {"text": "a", %b}}'


# --- JSON -------------------------------------------------------------------------------------------------------------

#: What stands beside `text` in the input of a good request, and how it is refused.
REFUSED = {
    "10,000 lists deep": (b'"anything": ' + b"[" * 10_000 + b"]" * 10_000, 400),
    "10,000 objects deep": (b'"anything": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400),
    "10 MB of values": (b'"anything": [' + b"1," * 5_000_000 + b"1]", 413),
    "10 MB cut off": (b'"anything": "' + b"x" * 10_000_000, 400),
    "10 MB of a choice": (b'"size": "' + b"x" * 10_000_000 + b'"', 422),
    "no UTF-8": (b'"anything": "\xff"', 400),
    "overlong UTF-8": (b'"anything": "\xc0\x80"', 400),
    "a surrogate in UTF-8": (b'"anything": "\xed\xa0\x80"', 400),
    "a lone surrogate": (rb'"anything": "\ud800"', 400),
    "NUL": (b'"anything": "\x00"', 400),
    "NUL, escaped": (rb'"anything": "\u0000"', 422),
    "NUL in a key": (rb'"anything": {"\u0000": 1}', 422),
    "a key twice": (b'"text": "b"', 400),
    "a key twice, once escaped": (rb'"te\u0078t": "b"', 400),
    "a key twice, deep inside": (b'"anything": [{"a": [{"b": 1, "c": 2, "b": 1}]}]', 400),
    "a key twice, beside URLs": (b'"anything": "data://", "image": "https://a.b/c:d", "text": "b"', 400),
    "a million digits": (b'"anything": ' + b"9" * 1_000_000, 400),
    "beyond 64 bit": (b'"count": 18446744073709551616', 422),
    "beyond a float": (b'"scale": 1e999', 400),
    "NaN": (b'"scale": NaN', 400),
    "Infinity": (b'"scale": -Infinity', 400),
    "a byte order mark within": (b'\xef\xbb\xbf"scale": 1', 400),
}


@pytest.mark.parametrize(("beside", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_bad_json_is_refused(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, beside: bytes, status: int
) -> None:
    published = await scene.publish(caller)
    body = INPUT % (published.version.encode(), beside)
    problem(await client.post("/v1/predictions", content=body, headers=JSON), status)


async def test_a_key_given_twice_is_named(client: httpx.AsyncClient) -> None:
    body = b'{"version": "x", "input": {}, "input": {"text": "b"}}'
    answer = await client.post("/v1/predictions", content=body, headers=JSON)
    assert problem(answer, 400)["detail"] == "The key 'input' is given more than once in one object."


async def test_of_a_hundred_thousand_mistakes_the_first_hundred_are_told(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/predictions", json=dict.fromkeys(map(str, range(40_000))))
    assert len(problem(answer, 422)["invalid_fields"]) == 100


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/json", "application/jsonx", "application/xml", "x" * 5_000, "\xff", ""]
)
async def test_a_body_of_another_type_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    answer = await client.post("/v1/predictions", content=b"{}", headers={b"Content-Type": kind.encode("latin-1")})
    assert problem(answer, 415)["detail"] == "Send the body as application/json."


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"])
async def test_json_by_another_name_is_taken(client: httpx.AsyncClient, kind: str) -> None:
    answer = await client.post("/v1/predictions", content=b"{}", headers={"Content-Type": kind})
    assert problem(answer, 422)["invalid_fields"][0]["type"] == "required"


# --- paths, queries, headers ------------------------------------------------------------------------------------------

LATE = "WyI5OTk5LTEyLTMxVDIzOjU5OjU5LTIzOjU5IiwgImFcdTAwMDAiXQ=="  # ["9999-12-31T23:59:59-23:59", "a\u0000"]
BAD_REQUESTS = [
    ("GET", "/v1/predictions/%00"),
    ("POST", "/v1/predictions/%00/cancel"),
    ("GET", f"/v1/predictions/{'a' * 5_000}"),
    ("GET", "/v1/predictions/..%2f..%2fetc%2fpasswd"),
    ("GET", "/v1/models/%00/%00/versions/%00"),
    ("GET", "/v1/models/%ff/%ed%a0%80"),
    ("GET", "/v1/files/%00"),
    ("DELETE", "/v1/files/%00"),
    ("GET", "/v1/files/..%2f..%2fsecret"),
    ("GET", "/v1/files/x/download"),
    ("GET", f"/v1/files/x/download?owner=%00&expiry={'9' * 5_000}&signature=%ff"),
    ("GET", "/v1/outputs/%00/%00"),
    ("GET", "/v1/outputs/x/..%2f..%2fetc%2fpasswd"),
    ("GET", "/v1/streams/%00"),
    ("GET", "/v1/streams/%ed%a0%80"),
    ("GET", "/v1/predictions?cursor=%00"),
    ("GET", "/v1/predictions?cursor=%ff"),
    ("GET", f"/v1/predictions?cursor={LATE}"),
    ("GET", f"/v1/predictions?cursor={'a' * 501}"),
    ("GET", "/v1/predictions?created_after=%00"),
    ("GET", "/v1/predictions?created_after=1e999"),
    ("GET", f"/v1/predictions?created_before={'9' * 5_000}"),
    ("GET", "/v1/predictions?source=%00"),
    ("GET", f"/v1/account/usage?days={'9' * 5_000}"),
]


@pytest.mark.parametrize(("method", "url"), BAD_REQUESTS)
async def test_what_stands_in_a_url_breaks_nothing(client: httpx.AsyncClient, method: str, url: str) -> None:
    answer = await client.request(method, url)
    assert answer.status_code in (400, 404, 422)
    problem(answer, answer.status_code)


BAD_HEADERS = [
    ("Cancel-After", "\xff"),
    ("Cancel-After", "9" * 5_000),
    ("Idempotency-Key", "\xff"),
    ("Idempotency-Key", ""),
]


@pytest.mark.parametrize(("name", "value"), BAD_HEADERS)
async def test_a_header_that_makes_no_sense_is_refused(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, name: str, value: str
) -> None:
    body = {"version": (await scene.publish(caller)).version, "input": {"text": "a"}}
    answer = await client.post("/v1/predictions", json=body, headers={name.encode(): value.encode("latin-1")})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


@pytest.mark.parametrize("value", ["\xff", "wait=-1", f"wait={'9' * 5_000}", "wait=\xb2", "respond-async"])
async def test_a_preference_that_makes_no_sense_is_ignored(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, value: str
) -> None:
    body = {"version": (await scene.publish(caller)).version, "input": {"text": "a"}}
    answer = await client.post("/v1/predictions", json=body, headers={b"Prefer": value.encode("latin-1")})
    assert answer.status_code == 201


# --- what belongs to others -------------------------------------------------------------------------------------------


async def test_what_belongs_to_another_account_does_not_exist(
    api: Settings, client: httpx.AsyncClient, stranger: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    private = await scene.publish(caller, visibility="private")
    body = {"version": private.version, "input": {"text": "a"}}
    prediction = (await client.post("/v1/predictions", json=body)).json()["id"]
    file = (await client.post("/v1/files", files={"content": ("a", b"a")})).json()["id"]
    for method, path in [
        ("GET", f"/v1/predictions/{prediction}"),
        ("POST", f"/v1/predictions/{prediction}/cancel"),
        ("GET", f"/v1/models/{private.model}"),
        ("GET", f"/v1/models/{private.model}/versions"),
        ("GET", f"/v1/models/{private.model}/versions/{private.version}"),
        ("GET", f"/v1/files/{file}"),
        ("DELETE", f"/v1/files/{file}"),
    ]:
        problem(await stranger.request(method, path), 404)
    assert (await client.get(f"/v1/predictions/{prediction}")).json()["status"] == "starting"
    assert (await client.get(f"/v1/files/{file}")).status_code == 200


async def test_a_stream_needs_more_than_the_id_of_its_prediction(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    body = {"version": (await scene.publish(caller)).version, "input": {"text": "a"}}
    prediction = (await client.post("/v1/predictions", json=body)).json()["id"]
    genuine = wire.stream_capability(api, prediction)
    for forged in (prediction, prediction + "0" * 64, genuine[:-1], genuine + "0", genuine.upper()):
        problem(await client.get(f"/v1/streams/{forged}"), 404)


async def test_a_download_is_signed_for_its_owner_only(
    api: Settings, client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    file = (await client.post("/v1/files", files={"content": ("a", b"a")})).json()["id"]
    other, expiry = (await scene.caller()).username, int(time.time()) + 60
    theirs = {"owner": other, "expiry": expiry, "signature": files.sign_download(api, other, file, expiry)}
    problem(await client.get(f"/v1/files/{file}/download", params=theirs), 404)
    problem(await client.get(f"/v1/files/{file}/download", params={**theirs, "owner": caller.username}), 404)


# --- uploads ----------------------------------------------------------------------------------------------------------

PART = b'--x\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\n'
FIELD = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\na\r\n'
MULTIPART = "multipart/form-data; boundary=x"
UPLOADS = {
    "no boundary": ("multipart/form-data", PART + b"a\r\n--x--\r\n", 400),
    "an empty boundary": ("multipart/form-data; boundary=", PART + b"a\r\n--x--\r\n", 400),
    "a huge boundary": (f"multipart/form-data; boundary={'x' * 5_000}", PART + b"a\r\n--x--\r\n", 400),
    "another boundary": (MULTIPART + "y", PART + b"a\r\n--x--\r\n", 400),
    "another character set": (MULTIPART + "; charset=unicode_escape", PART + b"a\r\n--x--\r\n", 415),
    "a form": ("application/x-www-form-urlencoded", b"content=a", 415),
    "JSON": ("application/json", b"{}", 415),
    "no type": ("", PART + b"a\r\n--x--\r\n", 415),
    "cut off": (MULTIPART, PART + b"a" * 100_000, 422),
    "many fields": (MULTIPART, FIELD * 100_000, 400),
    "many files": (MULTIPART, PART.replace(b"content", b"a") * 100_000, 400),
    "a huge field": (MULTIPART, FIELD.removesuffix(b"\r\n") + b"a" * 5 * MIB, 400),
    "a huge header": (MULTIPART, b"--x\r\nX-A: " + b"a" * 5 * MIB, 400),
    "many headers": (MULTIPART, b"--x\r\n" + b"X-A: a\r\n" * 100_000, 400),
    "a part without a name": (MULTIPART, b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", 400),
    "metadata with a key twice": (
        MULTIPART,
        FIELD.replace(b'"a"\r\n\r\na', b'"metadata"\r\n\r\n{"a": 1, "a": 2}') + PART + b"a\r\n--x--\r\n",
        400,
    ),
    "metadata in a huge file": (
        MULTIPART,
        PART.replace(b"content", b"metadata") + b" " * 70_000 + b"{}\r\n" + PART + b"a\r\n--x--\r\n",
        422,
    ),
}


@pytest.mark.parametrize(("kind", "body", "status"), UPLOADS.values(), ids=UPLOADS.keys())
async def test_a_bad_upload_is_refused_and_nothing_is_kept(
    client: httpx.AsyncClient, resources: Resources, kind: str, body: bytes, status: int
) -> None:
    problem(await client.post("/v1/files", content=body, headers={"Content-Type": kind}), status)
    assert (await client.get("/v1/files")).json()["results"] == []


def upload_head(token: str | None, framing: str) -> bytes:
    who = f"Authorization: Bearer {token}\r\n" if token else ""
    line = "POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return f"{line}{who}Content-Type: {MULTIPART}\r\n{framing}\r\n\r\n".encode()


@pytest.mark.parametrize(("has_token", "status"), [(True, 413), (False, 401)], ids=["with a token", "without"])
async def test_a_gigabyte_is_refused_before_its_first_byte(
    api_process: ApiProcess, caller: Caller, has_token: bool, status: int
) -> None:
    head = upload_head(caller.token if has_token else None, f"Content-Length: {1 << 30}")
    [answer] = await api_process.tell(head)
    problem(answer, status)


async def test_an_upload_without_a_length_is_cut_off_at_the_limit(api_process: ApiProcess, caller: Caller) -> None:
    chunk = b"%x\r\n%b\r\n" % (MIB, b"a" * MIB)
    most = UPLOAD_BYTES // MIB + 1
    first = b"%x\r\n%b\r\n" % (len(PART), PART)
    api_process.forget_peak()
    resident, written = api_process.resident_bytes, api_process.written_bytes
    head = upload_head(caller.token, "Transfer-Encoding: chunked")
    [answer] = await api_process.tell(head, first, *[chunk] * most)
    problem(answer, 413)
    assert api_process.peak_bytes < resident + 16 * MIB
    assert api_process.written_bytes < written + UPLOAD_BYTES + 4 * MIB


# --- memory -----------------------------------------------------------------------------------------------------------


def barrage(version: bytes, limit: int) -> Iterator[bytes]:
    """Bodies about as large as they may be, each bad in its own way."""
    start = INPUT.partition(b"%b}}")[0] % version
    fill = limit - 1_000
    yield b"[" + b"1," * (fill // 2) + b"1]"
    yield b"[" + b"[]," * (fill // 3) + b"1]"
    yield start + b'"anything": "' + b"x" * fill + b'"'
    yield start + b'"size": "' + b"x" * fill + b'"}}'
    yield start + b'"text": "' + b"x" * fill + b'"}}'
    for shape in (b'"%b"', b'["%b"]', b'{"%b": 1}', b'{"version": 1, "input": "%b"}'):
        yield shape % (b"x" * fill)
    yield b"\xff" * fill
    yield b" " * fill
    yield b"x" * (limit + 1)


async def test_bad_bodies_leave_nothing_in_memory(api_process: ApiProcess, scene: Scene, caller: Caller) -> None:
    version = (await scene.publish(caller)).version.encode()
    limit = api_process.settings.body_bytes
    async with client_of(api_process.settings, caller.token) as client:
        for body in barrage(version, limit // 20):  # So that everything is there that such requests need.
            await client.post("/v1/predictions", content=body, headers=JSON)
        before = api_process.resident_bytes
        for _ in range(2):
            for body in barrage(version, limit):
                answer = await client.post("/v1/predictions", content=body, headers=JSON)
                assert answer.status_code in (400, 413, 422)
                problem(answer, answer.status_code)
    assert api_process.resident_bytes < before + limit + 10 * MIB
