"""Server-sent events, byte by byte: each client stumbles over another deviation."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from api import streaming
from core import streams, wire
from core.lifecycle import PredictionStatus
from core.redis import stream_key
from core.resources import Resources
from core.settings import Settings
from tests.api.scene import CHUNKS, FILES, Caller, Scene

EVENT_ID = re.compile(r"^\d+:\d+$")


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    id: str
    data: str


def anybody() -> httpx.AsyncClient:
    """Sends no token, as browsers and most clients do."""
    return httpx.AsyncClient(timeout=30, verify=False, trust_env=False)


def parse(body: str) -> list[Event]:
    """As strictly as the strictest client: LF only, and every event with a name, an id and data."""
    assert "\r" not in body
    events = []
    for block in body.split("\n\n")[:-1]:
        lines = [line for line in block.split("\n") if not line.startswith(":")]
        name, id, *data = lines
        assert name.startswith("event: ")
        assert EVENT_ID.match(id.removeprefix("id: "))
        assert data
        assert all(line.startswith("data: ") for line in data)
        text = "\n".join(line.removeprefix("data: ") for line in data)
        events.append(Event(name.removeprefix("event: "), id.removeprefix("id: "), text))
    assert body.endswith("\n\n")
    return events


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.name, event.data) for event in events]


async def listen(url: str, last_event_id: str | None = None) -> list[Event]:
    """Everything up to the end of the stream, without a token."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    async with anybody() as listener:
        answer = await listener.get(url, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == "text/event-stream"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.text.startswith(":")
    return parse(answer.text)


async def create(client: httpx.AsyncClient, scene: Scene, caller: Caller, output: dict = CHUNKS) -> tuple[str, str]:
    """The id and the stream of a new prediction."""
    published = await scene.publish(caller, output)
    created = (await client.post("/v1/predictions", json={"version": published.version, "input": {"text": "x"}})).json()
    return created["id"], created["urls"]["stream"]


async def finished(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, chunks: list[str], **outcome: object
) -> tuple[str, str]:
    id, url = await create(client, scene, caller)
    row = await scene.start(id)
    for chunk in chunks:
        await scene.say(id, chunk)
    await scene.finish(row, chunks, **outcome)
    return id, url


async def test_chunks_are_told_as_they_come(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    id, url = await create(client, scene, caller)
    async with live(url) as events:
        row = await scene.start(id)
        for chunk in ("Once", " upon", " a time"):
            await scene.say(id, chunk)
            event = await anext(events)
            assert (event.name, event.data) == ("output", chunk)
        await scene.finish(row, ["Once", " upon", " a time"])
        event = await anext(events)
        assert (event.name, event.data) == ("done", "{}")
        with pytest.raises(StopAsyncIteration):
            await anext(events)


@pytest.mark.parametrize(
    ("chunk", "heard"),
    [
        ("a\nb", "a\nb"),
        ("\n", "\n"),
        ("a\n\n\nb\n", "a\n\n\nb\n"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("", ""),
        (" leading", " leading"),
        ("data: x\nevent: done", "data: x\nevent: done"),
        ("\U0001f600 é", "\U0001f600 é"),
    ],
)
async def test_a_chunk_arrives_as_it_was(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, chunk: str, heard: str
) -> None:
    _, url = await finished(client, scene, caller, [chunk])
    assert told(await listen(url)) == [("output", heard), ("done", "{}")]


async def test_after_the_end_all_is_told_again_from_any_point(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    _, url = await finished(client, scene, caller, ["a", "b", "c"])
    events = await listen(url)
    assert told(events) == [("output", "a"), ("output", "b"), ("output", "c"), ("done", "{}")]
    assert len({event.id for event in events}) == 4
    for index, event in enumerate(events[:-1]):
        assert await listen(url, event.id) == events[index + 1 :]


@pytest.mark.parametrize("last_event_id", ["nonsense", "", "1", "99999999999999999999999:0", "0:0"])
async def test_an_id_that_is_not_ours_means_from_the_start(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, last_event_id: str
) -> None:
    _, url = await finished(client, scene, caller, ["a"])
    assert told(await listen(url, last_event_id)) == [("output", "a"), ("done", "{}")]


async def test_a_lost_stream_is_told_from_the_row_from_any_point(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    id, url = await finished(client, scene, caller, ["a", "b", "c"])
    await resources.redis.delete(stream_key(id))
    events = await listen(url)
    assert told(events) == [("output", "a"), ("output", "b"), ("output", "c"), ("done", "{}")]
    for index, event in enumerate(events[:-1]):
        assert await listen(url, event.id) == events[index + 1 :]


async def test_who_leaves_while_it_runs_and_comes_back_hears_the_rest_and_ends_nothing(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    id, url = await create(client, scene, caller)
    row = await scene.start(id)
    async with live(url) as events:
        await scene.say(id, "a")
        left_at = (await anext(events)).id
    await scene.say(id, "b")
    assert (await client.get(f"/v1/predictions/{id}")).json()["status"] == "processing"
    coming_back = asyncio.create_task(listen(url, left_at))
    await scene.say(id, "c")
    await scene.finish(row, ["a", "b", "c"])
    assert told(await coming_back) == [("output", "b"), ("output", "c"), ("done", "{}")]


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The api is served in this process; nobody gains by waiting as long as in earnest."""
    monkeypatch.setattr(streaming, "_SILENCE", (0.5, 1.0))


@pytest.mark.usefixtures("short_silence")
async def test_a_stream_lost_under_a_listener_goes_on_where_it_was(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    id, url = await create(client, scene, caller)
    async with live(url) as events:
        row = await scene.start(id)
        await scene.say(id, "a")
        assert (await anext(events)).data == "a"
        await scene.finish_silently(row, ["a", "b"])
        await resources.redis.delete(stream_key(id))
        # Nobody rings: the listener looks for itself.
        assert told([await anext(events), await anext(events)]) == [("output", "b"), ("done", "{}")]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_failure_is_an_error_and_then_the_end(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources, lost: bool
) -> None:
    id, url = await finished(client, scene, caller, ["a"], status=PredictionStatus.FAILED, error='It "broke"')
    if lost:
        await resources.redis.delete(stream_key(id))
    assert told(await listen(url)) == [
        ("output", "a"),
        ("error", '{"detail":"It \\"broke\\""}'),
        ("done", '{"reason":"error"}'),
    ]


async def test_a_cancel_is_a_reason_to_end(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    id, url = await create(client, scene, caller)
    await client.post(f"/v1/predictions/{id}/cancel")
    assert told(await listen(url)) == [("done", '{"reason":"canceled"}')]


async def test_many_listen_at_once_and_hear_the_same(client: httpx.AsyncClient, scene: Scene, caller: Caller) -> None:
    id, url = await create(client, scene, caller)
    listeners = [asyncio.create_task(listen(url)) for _ in range(8)]
    row = await scene.start(id)
    for number in range(20):
        await scene.say(id, f"{number} ")
    await scene.finish(row, [])
    heard = await asyncio.gather(*listeners)
    assert [event.data for event in heard[0]] == [*(f"{number} " for number in range(20)), "{}"]
    assert all(events == heard[0] for events in heard)


@pytest.mark.usefixtures("short_silence")
async def test_silence_is_filled_with_comments_that_end_no_event(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    """Go forgets its last id at a blank line, and Python gives up after 30 seconds of nothing."""
    _, url = await create(client, scene, caller)
    async with anybody() as listener, listener.stream("GET", url) as answer:
        received = b""
        async for piece in answer.aiter_raw():
            received += piece
            if received.count(b"\n") > 1:
                break
    assert received == b": hi\n: hb\n"


async def test_files_are_data_uris_where_there_is_no_https(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    id, url = await create(client, scene, caller, FILES)
    assert "/v1/files/" in url
    row = await scene.start(id)
    _, reference = await scene.output_file(row, b"png")
    await scene.say(id, reference)
    await scene.finish(row, [reference])
    assert told(await listen(url)) == [("output", "data:image/png;base64,cG5n"), ("done", "{}")]


async def test_chunks_that_are_no_text_are_told_as_json(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    id, url = await create(client, scene, caller)
    row = await scene.start(id)
    await scene.say(id, {"a": [1, None]}, 2.5)
    await scene.finish(row, [])
    assert told(await listen(url))[:-1] == [("output", '{"a":[1,null]}'), ("output", "2.5")]


async def test_a_forged_capability_opens_nothing(
    api: Settings, client: httpx.AsyncClient, anonymous: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    id, url = await create(client, scene, caller)
    other_id, _ = await create(client, scene, caller)
    capability = url.rsplit("/", 1)[-1]
    for forged in (id, capability[:-1], capability + "a", other_id + capability[26:], "x" * len(capability), "é"):
        answer = await anonymous.get(f"/v1/streams/{forged}")
        assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such stream.")


@asynccontextmanager
async def live(url: str) -> AsyncIterator[AsyncIterator[Event]]:
    """Events as they come."""
    async with anybody() as listener, listener.stream("GET", url) as answer:
        yield _events(answer)


async def _events(answer: httpx.Response) -> AsyncIterator[Event]:
    received = ""
    async for piece in answer.aiter_text():
        received += piece
        while "\n\n" in received:
            block, received = received.split("\n\n", 1)
            for event in parse(block + "\n\n"):
                yield event


async def test_a_stream_without_its_prediction_is_not_found(
    api: Settings, anonymous: httpx.AsyncClient, resources: Resources
) -> None:
    capability = wire.stream_capability(api, "0" * 26)
    assert (await anonymous.get(f"/v1/streams/{capability}")).status_code == 404
    assert not await streams.exists(resources.redis, "0" * 26)
