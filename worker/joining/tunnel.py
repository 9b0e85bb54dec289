"""Local Unix sockets that lead to the gateway: one for each of Postgres, Redis and files. Understands no byte of it."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from core.errors import Unavailable
from core.joining.wire import READ_BYTES, Refused, Service, exchange, hang_up
from core.log import get_logger
from worker.joining.uplink import Stream, Uplink

log = get_logger()

SOCKETS = {Service.POSTGRES: ".s.PGSQL.5432", Service.REDIS: "redis.sock", Service.FILES: "files.sock"}
# `sun_path` holds 108 bytes with the closing zero.
_LONGEST_PATH = 107


@asynccontextmanager
async def tunnel(uplink: Uplink, folder: Path, refused: Callable[[Refused], None]) -> AsyncIterator[None]:
    """`refused` is called when the gateway says that it will never let us in again."""
    ways: set[asyncio.Task[None]] = set()
    async with AsyncExitStack() as stack:
        for service, name in SOCKETS.items():
            (folder / name).unlink(missing_ok=True)

            def take(reader, writer, service=service) -> None:
                way = asyncio.create_task(_lead(uplink, service, (reader, writer), refused))
                ways.add(way)
                way.add_done_callback(ways.discard)

            server = await asyncio.start_unix_server(take, str(folder / name), limit=READ_BYTES)
            stack.callback(server.close)
        try:
            yield
        finally:
            for way in ways:
                way.cancel()
            if ways:
                await asyncio.wait(ways)


@asynccontextmanager
async def socket_folder(data: Path) -> AsyncIterator[Path]:
    """That nobody else may enter, with a path short enough: under the data folder, or else a temporary one."""
    folder = data.expanduser().absolute() / "tunnel"
    if max(len(os.fsencode(folder / name)) for name in SOCKETS.values()) > _LONGEST_PATH:
        with tempfile.TemporaryDirectory(prefix="millrace-") as temporary:
            yield Path(temporary)
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    yield folder


async def _lead(uplink: Uplink, service: Service, local: Stream, refused: Callable[[Refused], None]) -> None:
    try:
        remote = await uplink.connect(service)
    except Unavailable:
        return hang_up(local[1])  # The uplink has said so, and whoever asked will ask again.
    except Refused as refusal:
        log.error("the gateway refuses this node", service=service, reason=str(refusal))
        hang_up(local[1])
        return refused(refusal) if refusal.is_final else None
    except BaseException:
        hang_up(local[1])
        raise
    await exchange(local, remote)
    return None
