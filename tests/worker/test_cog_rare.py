"""What the client does when a container falls back, forgets, floods or lies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from core.ids import new_id
from tests.support.cog_servers import STREAMING, CogServers, cog_server
from worker.cog import CogContainer, HookInbox, exchange
from worker.events import Done, Event, Log, Output, Started

LIMIT_SECONDS = 30
READY = b'{"status":"READY","setup":{"logs":""},"version":{"coglet":"0.23.1"}}'


async def run(container: CogContainer, /, **input: Any) -> list[Event]:
    async with asyncio.timeout(LIMIT_SECONDS):
        return [event async for event in container.predict("prediction-1", input)]


class TestWithoutStreams:
    """Newer Cog streams only what its schema file allows; without, it posts as older Cog does."""

    async def test_a_container_that_refuses_to_stream_is_followed_by_its_posts(self, cog_servers: CogServers) -> None:
        async with cog_servers.own(STREAMING, "chatty", streaming=False) as (_server, container):
            assert (await container.health()).streams

            events = await run(container, count=3, sleep_seconds=0.05)
            again = await run(container, count=1, sleep_seconds=0, fail=True)

        assert events[0] == Started()
        assert [event for event in events if isinstance(event, Output)] == [
            Output(f"chunk {index}", index) for index in range(3)
        ]
        assert events[-1] == Done("succeeded", ["chunk 0", "chunk 1", "chunk 2"], metrics={"chunk_count": 3})
        assert "log 0" in "".join(event.text for event in again if isinstance(event, Log))
        assert again[-1].error == "ValueError: chatty was asked to fail after 1 chunks"

    async def test_a_single_output_is_told_once(self, cog_servers: CogServers) -> None:
        """Newer Cog first posts it as a list of one."""
        async with cog_servers.own(STREAMING, "no-op-sync", streaming=False) as (_server, container):
            assert await run(container, text="hi") == [Started(), Output("hi", 0), Done("succeeded", "hi")]

    async def test_a_result_that_is_never_posted_fails_the_prediction(self, cog_servers: CogServers) -> None:
        async with cog_server(STREAMING, "no-op-sync", streaming=False) as server:
            await cog_servers.ready(server)
            nowhere = HookInbox("http://127.0.0.1:9/hooks")
            container = CogContainer(server.url, session=cog_servers.http, hooks=nowhere, slots=1)
            events = await run(container, text="hi")

        assert events[0] == Started()
        assert events[-1].status == "failed"
        assert "its result never arrived" in events[-1].error


FLOOD = """
from typing import Iterator
from cog import BasePredictor, Input

class Predictor(BasePredictor):
    def predict(self, mib: int = Input(default=0), count: int = Input(default=0)) -> Iterator[str]:
        if mib:
            yield "x" * (mib << 20)
        for number in range(count):
            yield str(number)
"""


class TestFlood:
    async def test_thousands_of_chunks_arrive_in_order(self, cog_servers: CogServers) -> None:
        container = await cog_servers.shared(STREAMING, FLOOD)
        events = await run(container, count=5000)

        expected = [str(number) for number in range(5000)]
        assert [event.chunk for event in events if isinstance(event, Output)] == expected
        assert events[-1] == Done("succeeded", expected)

    async def test_an_output_beyond_all_bounds_fails_the_prediction_and_not_the_container(
        self, cog_servers: CogServers
    ) -> None:
        container = await cog_servers.shared(STREAMING, FLOOD)
        end = (await run(container, mib=65))[-1]

        assert end.status == "failed"
        assert end.error.startswith("The model's output and logs are too large: over 64 MiB at once")
        assert not end.container_lost
        assert (await run(container, count=1))[-1].status == "succeeded"


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def impostor(cog_servers: CogServers, answer: bytes, *, closes: bool = True) -> AsyncIterator[CogContainer]:
    """A container that says it is ready, and answers every prediction with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked_for_health = (await reader.readuntil(b"\r\n")).startswith(b"GET /health-check")
        writer.write(_response(READY) if asked_for_health else answer)
        if asked_for_health or closes:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        container = CogContainer(
            url, session=cog_servers.http, hooks=HookInbox(url), slots=1, output_schema={"type": "string"}
        )
        assert (await container.health()).streams
        yield container


def _response(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def _events(*blocks: str) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + "".join(f"{block}\n\n" for block in blocks).encode()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection"),
        (b"220 smtp.example ESMTP\r\n\r\n", "does not speak HTTP"),
        (_events("event: start\ndata: {}"), "closed the connection"),
        (_events("event: log\ndata: {not json"), "what is not JSON"),
        (_events('event: log\ndata: ["no data"]'), "not what Cog's protocol says"),
        (_events('event: output\ndata: {"chunk":1}', "event: completed\ndata: null"), "not what Cog's protocol says"),
        (_events('event: completed\ndata: {"id":"another","status":"succeeded"}'), "not what Cog's protocol says"),
        (_events('event: completed\ndata: {"id":"prediction-1","status":"starting"}'), "not what Cog's protocol says"),
        (_response(b"oops", "500 Internal Server Error"), "HTTP 500: oops"),
    ],
)
async def test_a_container_that_breaks_the_protocol_is_lost(cog_servers: CogServers, answer: bytes, words: str) -> None:
    async with impostor(cog_servers, answer) as container:
        end = (await run(container))[-1]

    assert (end.status, end.container_lost) == ("failed", True)
    assert words in end.error


async def test_a_container_that_falls_silent_is_lost(cog_servers: CogServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SILENCE_SECONDS", 0.2)
    async with impostor(cog_servers, _events("event: start\ndata: {}"), closes=False) as container:
        end = (await run(container))[-1]

    assert end.container_lost
    assert "it was silent for 0.2 s" in end.error


async def test_a_container_that_says_busy_for_ever_is_lost(cog_servers: CogServers) -> None:
    async with impostor(cog_servers, _response(b'{"error":"At capacity"}', "409 Conflict")) as container:
        [end] = await run(container)

    assert end.container_lost
    assert end.error.startswith("The container says that it is busy")


async def test_only_named_fields_are_believed(cog_servers: CogServers) -> None:
    """Cog's clock, its reserved names and everything unknown stay behind."""
    answer = _events(
        ": keep-alive",
        "event: surprise\ndata: {}",
        'event: metric\ndata: {"name":"tokens","value":3,"mode":"increment"}',
        'event: completed\ndata: {"id":"prediction-1","status":"succeeded","output":"x","version":"evil",'
        '"started_at":"1970","metrics":{"predict_time":99,"cog.sneaky":1,"tokens":3}}',
    )
    async with impostor(cog_servers, answer) as container:
        events = await run(container)

    assert events[-1] == Done("succeeded", "x", metrics={"tokens": 3})


async def test_many_predictions_leave_nothing_behind(cog_servers: CogServers) -> None:
    container = await cog_servers.shared(STREAMING, "no-op-sync")
    tasks = len(asyncio.all_tasks())
    for _ in range(20):
        assert [event async for event in container.predict(new_id(), {})][-1].status == "succeeded"

    assert len(asyncio.all_tasks()) <= tasks
