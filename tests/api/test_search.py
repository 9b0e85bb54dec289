"""Search over HTTP: by the body of a QUERY as any client writes it, and over everything with or without a token."""

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from core import catalog
from core.ids import new_id
from core.people import accounts, tokens
from core.people.tokens import Scope
from core.resources import Resources
from core.search import Query
from core.settings import Settings
from core.tables import Collection, CollectionModel
from tests.api.conftest import client_of
from tests.api.scene import Caller, Published, Scene


@pytest.fixture
def word() -> str:
    """One that nothing else is described with."""
    return f"zebra{new_id()}"


@pytest.fixture
async def found(client: httpx.AsyncClient, scene: Scene, caller: Caller, word: str) -> Published:
    published = await scene.publish(caller)
    await client.patch(f"/v1/models/{published.model}", json={"description": f"Paints a {word} in oil"})
    return published


def names(page: dict) -> list[str]:
    return [f"{item['owner']}/{item['name']}" for item in page["results"]]


async def query(client: httpx.AsyncClient, body: bytes, content_type: str = "text/plain") -> httpx.Response:
    return await client.request("QUERY", "/v1/models", content=body, headers={"Content-Type": content_type})


# --- QUERY /models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "content_type"),
    [
        ("{}", "text/plain"),
        ("{}", "text/plain; charset=utf-8"),
        ('"{}"', "text/plain"),
        ('"{}"', "application/json"),
        ("  {}\n", "application/octet-stream"),
        ('"\\u0020{}"', "application/json"),
        ('"oil {}', "text/plain"),
    ],
)
async def test_a_query_may_be_bare_or_a_json_string_under_any_media_type(
    client: httpx.AsyncClient, found: Published, word: str, form: str, content_type: str
) -> None:
    """Python 1.x, Go and Swift send it bare, JavaScript quoted as text, Python 2.x quoted as JSON."""
    answer = await query(client, form.format(word).encode(), content_type)
    assert (answer.status_code, names(answer.json())) == (200, [found.model])
    assert (answer.json()["next"], answer.json()["previous"]) == (None, None)
    assert answer.json()["results"] == [(await client.get(f"/v1/models/{found.model}")).json()]


async def test_one_level_of_quotes_is_taken_off_and_no_more(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    published = await scene.publish(caller)
    await client.patch(f"/v1/models/{published.model}", json={"description": f'says "!?" {caller.username}'})
    assert names((await query(client, b'"\\"!?\\""')).json()) == [published.model]


@pytest.mark.parametrize("body", [b"", b" \n", b'""', b'" "', b"\0"])
async def test_there_must_be_something_to_look_for(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await query(client, body)
    assert (answer.status_code, answer.json()["title"]) == (400, "Bad request")


async def test_a_private_model_is_found_in_a_search_by_its_owner_only(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, found: Published, word: str
) -> None:
    assert names((await query(stranger, word.encode())).json()) == [found.model]
    await client.patch(f"/v1/models/{found.model}", json={"visibility": "private"})
    assert names((await query(client, word.encode())).json()) == [found.model]
    assert names((await query(stranger, word.encode())).json()) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
async def test_any_bytes_are_a_query_or_nothing_to_look_for(client: httpx.AsyncClient, body: bytes) -> None:
    assert (await query(client, body)).status_code in (200, 400)


@pytest.mark.parametrize("text", ["a" * 10_000, "ab " * 3400, "'" * 10_000, "🦓" * 2500, "(" * 5000 + ")" * 5000])
async def test_ten_kilobytes_are_a_query(client: httpx.AsyncClient, text: str) -> None:
    assert (await query(client, text.encode())).status_code == 200
    assert (await client.get("/v1/search", params={"query": text})).status_code == 200


# --- GET /search ------------------------------------------------------------------------------------------------------


async def collect(resources: Resources, published: Published, word: str) -> dict[str, str]:
    """A collection with that Model in it, which the word describes."""
    shown = {"slug": f"animals-{new_id()}", "name": "Animals", "description": f"With {word.upper()}"}
    owner, name = published.model.split("/")
    async with resources.database.transaction() as tx:
        account = await accounts.by_username(tx, owner)
        model = await catalog.get_model(tx, account.id, owner, name)
        await tx.execute(insert(Collection).values(**shown))
        await tx.execute(insert(CollectionModel).values(slug=shown["slug"], model_id=model.id, position=0))
    return shown


async def test_a_search_answers_in_the_documented_shape(
    client: httpx.AsyncClient, resources: Resources, found: Published, word: str
) -> None:
    shown = await collect(resources, found, word)
    answer = (await client.get("/v1/search", params={"query": word})).json()
    score = answer["models"][0]["metadata"].pop("score")
    assert score > 0
    assert answer == {
        "query": word,
        "models": [
            {
                "model": (await client.get(f"/v1/models/{found.model}")).json(),
                "metadata": {"generated_description": f"Paints a {word} in oil", "tags": []},
            }
        ],
        "collections": [{**shown, "models": [found.model]}],
        "pages": [],
    }


async def test_without_a_token_only_what_is_public_is_found(
    client: httpx.AsyncClient, anonymous: httpx.AsyncClient, resources: Resources, found: Published, word: str
) -> None:
    await collect(resources, found, word)
    answers = [(await anonymous.get("/v1/search", params={"query": word})).json()]
    await client.patch(f"/v1/models/{found.model}", json={"visibility": "private"})
    answers += [(await who.get("/v1/search", params={"query": word})).json() for who in (anonymous, client)]
    assert [len(answer["models"]) for answer in answers] == [1, 0, 1]
    assert [answer["collections"][0]["models"] for answer in answers] == [[found.model], [], [found.model]]


async def test_a_wrong_token_is_refused_even_where_none_is_needed(api: Settings, anonymous: httpx.AsyncClient) -> None:
    headers = {"Authorization": "Bearer wrong"}
    assert (await anonymous.get("/v1/search?query=x", headers=headers)).status_code == 401


@pytest.mark.parametrize("params", ["", "?query=", "?query=%20", "?query=%00", "?limit=3"])
async def test_a_missing_query_is_a_bad_request(anonymous: httpx.AsyncClient, params: str) -> None:
    answer = await anonymous.get(f"/v1/search{params}")
    assert (answer.status_code, answer.json()["detail"]) == (400, 'Query parameter "query" is required')


@pytest.mark.parametrize("limit", ["0", "51", "-1", "many", "1.5"])
async def test_a_limit_is_from_1_to_50(anonymous: httpx.AsyncClient, limit: str) -> None:
    answer = await anonymous.get("/v1/search", params={"query": "x", "limit": limit})
    assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "limit")


async def test_no_more_models_are_found_than_asked_for(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    for _ in range(3):
        await scene.publish(caller)
    for limit in (1, 2, 50):
        answer = await client.get("/v1/search", params={"query": caller.username, "limit": limit})
        assert len(answer.json()["models"]) == min(limit, 3)


@pytest.mark.parametrize(
    ("text", "href"), [("API ref", "/docs"), ("documentation", "/docs"), ("openapi schema", "/v1/openapi.json")]
)
async def test_pages_of_this_server_are_found(anonymous: httpx.AsyncClient, text: str, href: str) -> None:
    pages = (await anonymous.get("/v1/search", params={"query": text})).json()["pages"]
    assert href in [page["href"] for page in pages]
    assert [(await anonymous.get(page["href"])).status_code for page in pages] == [200] * len(pages)


def test_a_query_is_bounded_whatever_is_sent() -> None:
    long = Query.of(" ".join(f"w{number}" for number in range(10_000)))
    assert long is not None
    assert (len(long.phrase) <= 500, len(long.words) <= 16) == (True, True)


async def test_a_token_that_may_not_read_finds_nothing_private(
    api: Settings, resources: Resources, scene: Scene, caller: Caller
) -> None:
    async with resources.database.transaction() as tx:
        _, token = await tokens.create(tx, new_id(), caller.id, "bills only", [Scope.BILLING])
    async with client_of(api, token) as client:
        assert (await client.get("/v1/search?query=model")).status_code == 403
