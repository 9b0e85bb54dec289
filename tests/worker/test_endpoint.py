"""What containers may ask of the node, over real HTTP."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from tests.support.uploads import Upload, Uploads
from worker.endpoint import Endpoint


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class TestUploads:
    async def test_a_file_is_stored_with_all_that_is_known_about_it(
        self, cog_endpoint: Endpoint, uploads: Uploads, http: aiohttp.ClientSession
    ) -> None:
        headers = {"Content-Type": "image/png", "X-Prediction-ID": "p1"}
        body = b"\x89PNG" * 100_000
        async with http.put(cog_endpoint.upload_url("i1") + "a%20b.png", data=body, headers=headers) as response:
            location = response.headers["Location"]

        assert response.status == 201
        assert uploads.stored[location] == Upload("i1", "p1", "a b.png", "image/png", body)

    async def test_what_was_named_before_its_instance_uploads_for_that_until_it_is_forgotten(
        self, cog_endpoint: Endpoint, uploads: Uploads, http: aiohttp.ClientSession
    ) -> None:
        owners = []
        cog_endpoint.introduce("spare", "i1")
        for _ in range(2):
            async with http.put(cog_endpoint.upload_url("spare") + "out.txt", data=b"x") as response:
                owners.append(uploads.stored[response.headers["Location"]].instance_id)
            cog_endpoint.forget("i1")
        assert owners == ["i1", "spare"]

    async def test_equal_names_get_locations_of_their_own_without_a_prediction_id_too(
        self, cog_endpoint: Endpoint, uploads: Uploads, http: aiohttp.ClientSession
    ) -> None:
        locations = []
        for body in (b"first", b"second"):
            async with http.put(cog_endpoint.upload_url("i1") + "out.txt", data=body) as response:
                locations.append(response.headers["Location"])

        stored = [uploads.stored[location] for location in locations]
        assert [(upload.prediction_id, upload.content) for upload in stored] == [(None, b"first"), (None, b"second")]

    @pytest.mark.parametrize(
        ("path", "name"),
        [("", "output"), ("..", "output"), ("%2e%2e", "output"), ("a/b/c.txt", "c.txt"), ("a%2F..%2Fpasswd", "passwd"),
         ("%0d%0aX.txt", "X.txt"), ("x" * 300 + ".png", "x" * 196 + ".png")],
    )  # fmt: skip
    async def test_a_name_is_never_a_path(
        self, cog_endpoint: Endpoint, uploads: Uploads, http: aiohttp.ClientSession, path: str, name: str
    ) -> None:
        async with http.put(URL(cog_endpoint.upload_url("i1") + path, encoded=True), data=b"x") as response:
            assert response.status == 201
        assert uploads.stored[response.headers["Location"]].filename == name

    async def test_a_file_that_is_refused_says_why(
        self, cog_endpoint: Endpoint, uploads: Uploads, http: aiohttp.ClientSession
    ) -> None:
        uploads.largest = 10
        try:
            async with http.put(cog_endpoint.upload_url("i1") + "big.bin", data=b"x" * 11) as response:
                text = await response.text()
        finally:
            uploads.largest = 1 << 30

        assert (response.status, text) == (413, "big.bin is larger than 10 bytes.")


class TestHooks:
    async def test_a_post_reaches_the_open_hook_of_its_container_alone(
        self, cog_endpoint: Endpoint, http: aiohttp.ClientSession
    ) -> None:
        ours, other = cog_endpoint.inbox("i2"), cog_endpoint.inbox("i3")
        with ours.open("p1") as hook, other.open("p1") as silent:
            async with http.post(hook.url, json={"id": "p1", "status": "processing"}) as response:
                assert response.status == 200

            assert await hook.next(5) == {"id": "p1", "status": "processing"}
            assert await silent.next(0.01) is None

    async def test_a_post_nobody_waits_for_is_answered_so_that_it_is_not_repeated(
        self, cog_endpoint: Endpoint, http: aiohttp.ClientSession
    ) -> None:
        async with http.post(f"{cog_endpoint.url}/hooks/gone/p1", json={}) as response:
            assert response.status == 200

    async def test_a_post_that_is_not_json_is_refused(
        self, cog_endpoint: Endpoint, http: aiohttp.ClientSession
    ) -> None:
        async with http.post(f"{cog_endpoint.url}/hooks/i2/p1", data=b"{") as response:
            assert response.status == 400

    async def test_a_forgotten_instance_gets_a_fresh_inbox(self, cog_endpoint: Endpoint) -> None:
        first = cog_endpoint.inbox("i4")
        assert cog_endpoint.inbox("i4") is first

        cog_endpoint.forget("i4")
        assert cog_endpoint.inbox("i4") is not first


class TestInputs:
    async def test_an_input_is_streamed_with_its_type_and_size(
        self, cog_endpoint: Endpoint, uploads: Uploads, http: aiohttp.ClientSession
    ) -> None:
        uploads.inputs["token"] = ("image/jpeg", b"jpeg" * 100_000)
        async with http.get(cog_endpoint.input_url("token", "my photo.jpg")) as response:
            body = await response.read()

        assert response.url.name == "my photo.jpg"
        assert (response.content_type, response.content_length) == ("image/jpeg", 400_000)
        assert body == b"jpeg" * 100_000

    async def test_an_unknown_token_finds_nothing(self, cog_endpoint: Endpoint, http: aiohttp.ClientSession) -> None:
        async with http.get(cog_endpoint.input_url("guess", "x")) as response:
            assert response.status == 404


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "uploads/i1/x"), ("POST", "hooks/i1/p1"), ("GET", "inputs/token/x")]
)
async def test_without_the_secret_there_is_nothing(
    cog_endpoint: Endpoint, uploads: Uploads, http: aiohttp.ClientSession, method: str, path: str
) -> None:
    uploads.inputs["token"] = ("text/plain", b"x")
    before = dict(uploads.stored)
    wrong = cog_endpoint.url[:-1] + ("A" if cog_endpoint.url[-1] != "A" else "B")
    async with http.request(method, f"{wrong}/{path}", data=b"{}") as response:
        assert response.status == 404
    assert uploads.stored == before


async def test_two_endpoints_share_no_secret_and_no_port() -> None:
    uploads = Uploads()
    urls = set()
    for _ in range(2):
        endpoint = Endpoint(save=uploads.save, open_input=uploads.open_input, host="127.0.0.1", callback_host="::1")
        await endpoint.start()
        urls.add(endpoint.url)
        await endpoint.close()

    assert len(urls) == len({url.rsplit("/", 1)[1] for url in urls}) == 2
    assert all(url.startswith("http://[::1]:") for url in urls)
