"""A prediction goes on in its container while the client that listens to it is replaced: real servers, each family."""

import asyncio
from contextlib import aclosing

import orjson
import pytest

from core.ids import new_id
from tests.support.cog_servers import STREAMING, VERSIONS, CogServer, CogServers
from worker import handover
from worker.cog import CogContainer, HandedOver, Kept
from worker.cog.exchange import Exchange, Left
from worker.cog.leaving import Line
from worker.events import Done, Event, Log, Output

LIMIT_SECONDS = 60
COUNT = 8


async def until_handed_over(
    container: CogContainer, prediction_id: str, input: dict, enough: int, kept: Kept | None = None
) -> tuple[list[Event], Kept | None]:
    """Its events until there are so many chunks, and what the next client needs, as it is written down."""
    events: list[Event] = []
    asked: asyncio.Task | None = None
    try:
        async with aclosing(container.predict(prediction_id, input, kept)) as stream:
            async for event in stream:
                events.append(event)
                if asked is None and sum(isinstance(event, Output) for event in events) >= enough:
                    asked = asyncio.create_task(leave(container))
    except HandedOver as left:
        return events, left.kept and Kept.of(orjson.loads(orjson.dumps(left.kept.as_dict())))
    finally:
        if asked is not None:
            asked.cancel()
    raise AssertionError(f"it ended instead: {events}")


async def leave(container: CogContainer) -> None:
    while True:
        container.leave()
        await asyncio.sleep(0.01)


async def rest(container: CogContainer, prediction_id: str, input: dict, kept: Kept | None) -> list[Event]:
    async with asyncio.timeout(LIMIT_SECONDS):
        return [event async for event in container.predict(prediction_id, input, kept)]


def successor(servers: CogServers, container: CogContainer, server: CogServer) -> CogContainer:
    client = servers.client(server)
    client.remember(container.manners)
    return client


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_chunk_and_log_is_told_once_and_in_order_however_often_its_listener_changes(
    cog_servers: CogServers, version: str
) -> None:
    id, input = new_id(), {"count": COUNT, "sleep_seconds": 0.1}
    async with cog_servers.own(version, "chatty") as (server, container):
        events, kept = await until_handed_over(container, id, input, 2)
        second = successor(cog_servers, container, server)
        more, kept = await until_handed_over(second, id, input, 1, kept)
        events += more + await rest(successor(cog_servers, second, server), id, input, kept)
    expected = [f"chunk {index}" for index in range(COUNT)]
    assert [event.chunk for event in events if isinstance(event, Output)] == expected
    assert isinstance(events[-1], Done)
    assert (events[-1].status, events[-1].output) == ("succeeded", expected)
    logs = "".join(event.text for event in events if isinstance(event, Log))
    assert [line for line in logs.splitlines() if line.startswith("log ")] == [f"log {index}" for index in range(COUNT)]


async def test_a_result_that_comes_while_nobody_listens_is_not_lost(cog_servers: CogServers) -> None:
    id, input = new_id(), {"count": 3, "sleep_seconds": 0.05}
    async with cog_servers.own(STREAMING, "chatty") as (server, container):
        events, kept = await until_handed_over(container, id, input, 1)
        await asyncio.sleep(1.0)
        events += await rest(successor(cog_servers, container, server), id, input, kept)
    assert [event.chunk for event in events if isinstance(event, Output)] == ["chunk 0", "chunk 1", "chunk 2"]
    assert events[-1].status == "succeeded"


async def test_what_was_not_sent_yet_begins_with_the_next_client(cog_servers: CogServers) -> None:
    id, input = new_id(), {"count": 1, "sleep_seconds": 0}
    async with cog_servers.own(STREAMING, "chatty") as (server, container):
        container.leave()
        with pytest.raises(HandedOver) as left:
            await rest(container, id, input, None)
        assert left.value.kept is None
        events = await rest(successor(cog_servers, container, server), id, input, None)
    assert events[-1].status == "succeeded"


SCRIPT = (
    b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    b'event: log\ndata: {"source": "stdout", "data": "one"}\n\n'
    b": keep-alive\n\n"
    b'event: output\ndata: {"chunk": "\xc3\xa4", "index": 0}\n\n'
    b'event: completed\ndata: {"id": "p", "status": "succeeded"}\n\n'
)


@pytest.mark.parametrize("cut", range(0, len(SCRIPT), 3))
async def test_a_stream_may_be_left_at_any_byte(cut: int) -> None:
    """Half a line, half a character: whatever was read and not understood is handed on."""
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SCRIPT[:cut])
        await writer.drain()
        await go_on.wait()
        writer.write(SCRIPT[cut:])
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        exchange = await Exchange.connect(host, port)
        exchange.send(host, "p", b"", "Accept: text/event-stream")
        names: list[bytes] = []
        asyncio.get_running_loop().call_later(0.05, exchange.leave)
        try:
            await exchange.accepted()
            while True:
                names.append((await exchange.next())[0])
        except Left as left:
            line = Line.of(orjson.loads(orjson.dumps(left.line.as_dict())))
        exchange.close()
        go_on.set()
        second = await Exchange.resume(line)
        await second.accepted()
        while names[-1:] != [b"completed"]:
            names.append((await second.next())[0])
        second.close()
    assert names == [b"log", b"output", b"completed"]


async def test_new_code_that_does_not_load_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await handover.is_possible()
    monkeypatch.setattr(handover, "_TRIAL", "import nothing_of_this_name")
    assert not await handover.is_possible()
