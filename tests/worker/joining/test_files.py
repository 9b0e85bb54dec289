"""The control plane's file store as a node of another machine has it: through the gateway, whole or not at all."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from core.errors import NotFound, TooLarge, Unavailable
from core.files import FileStore, Measured
from core.ids import new_id
from core.settings import Settings
from tests.support.gateways import GatewayProcess, machine
from worker.joining.membership import membership

MIB = 1024 * 1024


@pytest.fixture
async def joined(gateway: GatewayProcess, tmp_path: Path) -> AsyncIterator[Settings]:
    settings = machine(tmp_path / "machine", await gateway.token(), f"node-{new_id()}")
    async with membership(settings) as joined:
        yield joined


def stored(gateway: GatewayProcess) -> Path:
    return Path(gateway.settings.file_store_url.removeprefix("file://"))


async def chunks(count: int, size: int = MIB) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 251]) * size


async def test_what_a_node_puts_there_the_control_plane_reads_and_the_other_way_round(
    gateway: GatewayProcess, joined: Settings, tmp_path: Path
) -> None:
    here, there = FileStore(joined), FileStore(gateway.settings)
    big, small, digest = f"outputs/{new_id()}", f"uploads/{new_id()}", new_id()
    await here.put(big, chunks(20))
    assert await there.read(big) == b"".join([chunk async for chunk in chunks(20)])
    await there.put(small, b"small")
    assert await here.read(small) == b"small"
    archive = tmp_path / "bundle"
    archive.write_bytes(bytes(3 * MIB))
    assert not await here.has_bundle(digest)
    await here.put_bundle(digest, archive)
    assert await here.has_bundle(digest)
    await here.fetch_bundle(digest, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == archive.read_bytes()
    await here.put(f"outputs/{digest}", b"")
    assert await there.read(f"outputs/{digest}") == b""


async def test_a_big_file_passes_in_chunks(joined: Settings) -> None:
    store, key = FileStore(joined), f"outputs/{new_id()}"
    await store.put(key, chunks(8))
    sizes = [len(chunk) async for chunk in await store.stream(key)]
    assert sum(sizes) == 8 * MIB
    assert len(sizes) > 1


async def test_a_deleted_file_is_gone_and_one_that_never_was_is_not_found(joined: Settings) -> None:
    store, key = FileStore(joined), f"outputs/{new_id()}"
    await store.put(key, b"x")
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(NotFound):
        await store.read(key)
    with pytest.raises(NotFound):
        await store.stream(key)


async def test_a_file_that_grows_too_large_is_refused_and_leaves_nothing(
    gateway: GatewayProcess, joined: Settings
) -> None:
    key = f"outputs/{new_id()}"
    with pytest.raises(TooLarge):
        await FileStore(joined).put(key, aiter(Measured(chunks(20), 12 * MIB)))
    await nothing_is_left(gateway, key)


async def test_a_file_whose_sender_dies_leaves_nothing(gateway: GatewayProcess, joined: Settings) -> None:
    key = f"outputs/{new_id()}"

    async def endless() -> AsyncIterator[bytes]:
        async for chunk in chunks(12):
            yield chunk
        await asyncio.Event().wait()

    putting = asyncio.create_task(FileStore(joined).put(key, endless()))
    await asyncio.sleep(1)
    putting.cancel()
    await asyncio.wait([putting])
    await nothing_is_left(gateway, key)


async def test_what_is_on_its_way_as_the_way_is_cut_is_sent_again_whole(tmp_path: Path) -> None:
    """The first to be asked hangs up in the middle, the second before it has heard a word."""
    taken: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(await (request.content.readexactly(MIB) if not taken else request.read()))
        if len(taken) < 3:
            request.transport.abort()
        return web.Response(status=204)

    async with serving(tmp_path / "store.sock", take) as store:
        await store.put(f"outputs/{new_id()}", chunks(3))
    assert [len(each) for each in taken] == [MIB, 3 * MIB, 3 * MIB]
    assert taken[-1] == b"".join([chunk async for chunk in chunks(3)])


async def test_what_is_fetched_as_the_way_is_cut_is_fetched_on(tmp_path: Path) -> None:
    """Where it broke off, and only while each try brings something."""
    content = b"".join([chunk async for chunk in chunks(5)])
    ends = iter([MIB + 1, 3 * MIB, 5 * MIB, 0])

    async def give(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(content[: (end := next(ends))])
        if end < len(content):
            # What was said is still heard.
            request.transport.close()
        return response

    async with serving(tmp_path / "store.sock", give) as store:
        assert await store.read(f"outputs/{new_id()}") == content
        with pytest.raises(Unavailable, match="does not answer"):
            await store.read(f"outputs/{new_id()}")


async def test_a_store_that_takes_nothing_says_why(tmp_path: Path) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=503, text="Its disk is full.")

    async with serving(tmp_path / "store.sock", refuse) as store:
        with pytest.raises(Unavailable, match="Its disk is full"):
            await store.put(f"outputs/{new_id()}", b"x")


@asynccontextmanager
async def serving(socket: Path, handler: Handler) -> AsyncIterator[FileStore]:
    app = web.Application(client_max_size=2**40)
    app.router.add_route("*", "/{key:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    yield FileStore(Settings(files_url=f"unix://{socket}"))
    await runner.cleanup()


async def nothing_is_left(gateway: GatewayProcess, key: str) -> None:
    """Neither the file nor what was to become it."""
    folder = (stored(gateway) / key).parent
    deadline = time.monotonic() + 30
    while left := [*folder.glob(f"{Path(key).name}*")]:
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.05)
    assert not await FileStore(gateway.settings).has(key)


@pytest.mark.parametrize(
    "key",
    [
        "../secrets.json",
        "uploads/../../secrets.json",
        "uploads/..",
        "uploads/%2e%2e/%2e%2e/secrets.json",
        "uploads/..%2f..%2fsecrets.json",
        "uploads//etc/passwd",
        "/etc/passwd",
        "uploads/a/b",
        "uploads/.hidden",
        "invoices/1.pdf",
        "uploads/",
        "uploads/a%00",
        "uploads/a?b",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_no_key_leads_out_of_the_store(gateway: GatewayProcess, joined: Settings, method: str, key: str) -> None:
    """Sent as they stand, as no proper client would."""
    reader, writer = await asyncio.open_unix_connection(joined.files_url.removeprefix("unix://"))
    head = f"{method} /{key} HTTP/1.1\r\nHost: files\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx"
    writer.write(head.encode())
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    assert answer.split()[1] in (b"403", b"400"), answer
    if method == "GET" and answer.split()[1] == b"403":
        assert b"is not the key of a file" in answer
