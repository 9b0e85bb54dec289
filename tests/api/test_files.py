"""Uploads: every dialect of every client, who may see them, and how they are had by those without a token."""

import hashlib
import json
import time

import httpx
import pytest
from sqlalchemy import func, update

from core import files
from core.resources import Resources
from core.settings import Settings
from core.tables import File
from tests.api.scene import Caller

CONTENT = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
NESTED = {"a": {"b": "c"}, "k": "v"}


def content_part(name: str = "a.png", kind: str = "image/png") -> tuple:
    return ("content", (name, CONTENT, kind))


DIALECTS = {
    "python 1": [content_part(), ("metadata", (None, json.dumps(NESTED)))],
    "javascript": [content_part(), ("metadata", ("blob", json.dumps(NESTED), "application/json"))],
    "python 2": [
        content_part("upload", "application/octet-stream"),
        ("filename", (None, "a.png")),
        ("type", (None, "image/png")),
        ("metadata[k]", (None, "v")),
        ("metadata[a][b]", (None, "c")),
    ],
    "go": [content_part(), ("metadata", (None, json.dumps(NESTED), "application/json"))],
}


@pytest.mark.parametrize("parts", DIALECTS.values(), ids=DIALECTS.keys())
async def test_every_client_may_upload_in_its_dialect(api: Settings, client: httpx.AsyncClient, parts: list) -> None:
    answer = await client.post("/v1/files", files=parts)
    assert answer.status_code == 201
    file = answer.json()
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert file == {
        "id": file["id"],
        "name": "a.png",
        "content_type": "image/png",
        "size": len(CONTENT),
        "etag": md5,
        "checksums": {"sha256": hashlib.sha256(CONTENT).hexdigest(), "md5": md5},
        "metadata": NESTED,
        "created_at": file["created_at"],
        "expires_at": file["expires_at"],
        "urls": {"get": f"{api.url}/v1/files/{file['id']}"},
    }
    assert (await client.get(file["urls"]["get"])).json() == file
    assert (await client.get("/v1/files")).json() == {"next": None, "previous": None, "results": [file]}


async def test_a_file_without_metadata_has_an_empty_object(client: httpx.AsyncClient) -> None:
    file = (await client.post("/v1/files", files=[content_part()])).json()
    assert file["metadata"] == {}


async def test_a_deleted_file_is_gone(
    api: Settings, client: httpx.AsyncClient, caller: Caller, resources: Resources
) -> None:
    file = await upload(client)
    signed = download_url(api, caller.username, file["id"])
    assert (await client.delete(file["urls"]["get"])).status_code == 204
    for answer in (
        await client.get(file["urls"]["get"]),
        await client.delete(file["urls"]["get"]),
        await client.get(signed),
    ):
        assert answer.status_code == 404
    assert (await client.get("/v1/files")).json()["results"] == []
    assert not (resources.settings.data / "files" / "uploads" / file["id"]).exists()


async def test_an_expired_file_is_gone(
    api: Settings, client: httpx.AsyncClient, caller: Caller, resources: Resources
) -> None:
    file = await upload(client)
    async with resources.database.autocommit() as tx:
        await tx.execute(update(File).where(File.id == file["id"]).values(expires_at=func.now()))
    for url in (file["urls"]["get"], download_url(api, caller.username, file["id"])):
        assert (await client.get(url)).status_code == 404
    assert (await client.get("/v1/files")).json()["results"] == []


async def test_nobody_else_may_see_or_delete_a_file(client: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
    file = await upload(client)
    assert (await stranger.get(file["urls"]["get"])).status_code == 404
    assert (await stranger.delete(file["urls"]["get"])).status_code == 404
    assert (await stranger.get("/v1/files")).json()["results"] == []
    assert (await client.get(file["urls"]["get"])).status_code == 200


# --- signed downloads -------------------------------------------------------------------------------------------------


async def test_a_signed_url_gives_the_bytes_without_a_token(
    api: Settings, client: httpx.AsyncClient, anonymous: httpx.AsyncClient, caller: Caller
) -> None:
    file = await upload(client)
    answer = await anonymous.get(download_url(api, caller.username, file["id"]))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")


@pytest.mark.parametrize("forged", ["owner", "expiry", "signature", "id", "empty"])
async def test_a_forged_or_changed_url_finds_nothing(
    api: Settings, client: httpx.AsyncClient, anonymous: httpx.AsyncClient, caller: Caller, forged: str
) -> None:
    file, other = await upload(client), await upload(client)
    url = httpx.URL(download_url(api, caller.username, file["id"]))
    changes = {
        "owner": {"owner": "somebody"},
        "expiry": {"expiry": str(int(time.time()) + 10_000)},
        "signature": {"signature": "AAAA"},
        "empty": {"signature": ""},
    }
    url = url.copy_merge_params(changes.get(forged, {}))
    if forged == "id":
        url = url.copy_with(path=f"/v1/files/{other['id']}/download")
    assert (await anonymous.get(url)).status_code == 404


async def test_an_expired_url_finds_nothing(
    api: Settings, client: httpx.AsyncClient, anonymous: httpx.AsyncClient, caller: Caller
) -> None:
    file = await upload(client)
    assert (await anonymous.get(download_url(api, caller.username, file["id"], seconds=-1))).status_code == 404


# --- bad uploads ------------------------------------------------------------------------------------------------------


async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(
    api: Settings, client: httpx.AsyncClient, resources: Resources
) -> None:
    before = stored(resources)
    answer = await client.post("/v1/files", files={"content": ("big", b"x" * (api.upload_bytes + 1))})
    assert answer.status_code == 413
    assert str(api.upload_bytes) in answer.json()["detail"]
    assert stored(resources) == before


@pytest.mark.parametrize(
    "parts",
    [
        [("other", ("a", b"a"))],
        [("content", (None, "a field and no file"))],
        [content_part(), ("metadata", (None, "[1]"))],
        [content_part(), ("metadata", (None, "not json"))],
        [content_part(), ("metadata", (None, '{"a": "\\u0000"}'))],
        [content_part(), ("metadata[a]", (None, "1")), ("metadata[a][b]", (None, "2"))],
        [content_part(), ("metadata" + "[a]" * 300, (None, "1"))],
        [content_part(), ("metadata[", (None, "1"))],
        [content_part("x" * 256)],
        [content_part("\u00e9" * 128)],
        [content_part(), ("filename", (None, "x" * 256))],
    ],
)
async def test_an_upload_that_makes_no_sense_is_the_clients_mistake(
    client: httpx.AsyncClient, resources: Resources, parts: list
) -> None:
    before = stored(resources)
    answer = await client.post("/v1/files", files=parts)
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert stored(resources) == before


@pytest.mark.parametrize("body", [b"", b"--x\r\nbroken", b"hello"])
async def test_what_is_no_multipart_body_is_the_clients_mistake(client: httpx.AsyncClient, body: bytes) -> None:
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data"):
        answer = await client.post("/v1/files", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 422), answer.text


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "a/b\\c", 'a"; filename="b', "a\r\nX-Evil: 1", "\u2028 \U0001f600", ".", "a\x00b"]
)
async def test_a_name_is_only_a_name(
    api: Settings, client: httpx.AsyncClient, caller: Caller, resources: Resources, name: str
) -> None:
    answer = await client.post("/v1/files", files=[content_part(), ("filename", (None, name))])
    assert answer.status_code == 201
    assert (resources.settings.data / "files" / "uploads" / answer.json()["id"]).read_bytes() == CONTENT
    got = await client.get(download_url(api, caller.username, answer.json()["id"]))
    assert (got.status_code, got.content) == (200, CONTENT)
    assert "x-evil" not in got.headers
    assert got.headers["content-disposition"].startswith("inline; filename*=UTF-8''")


@pytest.mark.parametrize(
    "kind", ["text/html", "text/plain\r\nX-Evil: 1", "\u0442\u0435\u043a\u0441\u0442", "", "a" * 3000, "image/png\x00"]
)
async def test_a_content_type_cannot_break_the_answer(
    api: Settings, client: httpx.AsyncClient, caller: Caller, kind: str
) -> None:
    answer = await client.post("/v1/files", files=[content_part(), ("type", (None, kind))])
    assert answer.status_code == 201
    got = await client.get(download_url(api, caller.username, answer.json()["id"]))
    assert (got.status_code, got.content) == (200, CONTENT)
    assert "x-evil" not in got.headers


async def upload(client: httpx.AsyncClient) -> dict:
    answer = await client.post("/v1/files", files=[content_part()])
    assert answer.status_code == 201, answer.text
    return answer.json()


def download_url(api: Settings, owner: str, file_id: str, seconds: int = 60) -> str:
    expiry = int(time.time()) + seconds
    query = {"owner": owner, "expiry": expiry, "signature": files.sign_download(api, owner, file_id, expiry)}
    return str(httpx.URL(f"{api.url}/v1/files/{file_id}/download", params=query))


def stored(resources: Resources) -> set[str]:
    folder = resources.settings.data / "files" / "uploads"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()
