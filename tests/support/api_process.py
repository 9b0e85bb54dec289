"""The api as a process of its own, to be told what no client library would say, and weighed while it is told."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from core.settings import Settings, process_environment
from tests.support.ports import free_port
from tests.support.process import Process

#: On a machine that does other things as well.
START_SECONDS = 60
#: Whoever has not closed the connection by then keeps it open.
CLOSE_SECONDS = 10
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ApiProcess:
    """`settings.url` is where it answers."""

    settings: Settings
    process: Process

    @property
    def resident_bytes(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    @property
    def peak_bytes(self) -> int:
        """The most memory it had since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    @property
    def written_bytes(self) -> int:
        """To files and to sockets."""
        return psutil.Process(self.process.pid).io_counters().write_chars

    async def tell(self, *pieces: bytes) -> list[httpx.Response]:
        """Every answer on one connection to which the pieces are written, read until the server closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.settings.port)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                return _answers(await reader.read(-1))
        finally:
            writer.close()


def _answers(raw: bytes) -> list[httpx.Response]:
    answers = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        headers = httpx.Headers([tuple(line.split(b": ", 1)) for line in lines])
        length = int(headers["content-length"])
        answers.append(httpx.Response(int(status_line.split()[1]), headers=headers, content=rest[:length]))
        raw = rest[length:]
    return answers


@asynccontextmanager
async def running_api(settings: Settings, log: Path) -> AsyncIterator[ApiProcess]:
    port = free_port()
    settings = settings.model_copy(update={"host": "127.0.0.1", "port": port, "public_url": f"http://127.0.0.1:{port}"})
    given = {f"MILLRACE_{name.upper()}": str(getattr(settings, name)) for name in settings.model_fields_set}
    process = Process("api", (sys.executable, "-m", "api"), {**process_environment(), **given}, log)
    process.start()
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _is_up(settings):
                assert process.is_running, f"The api ended while it started:\n{process.tail()}"
                await asyncio.sleep(_LOOK_SECONDS)
        yield ApiProcess(settings, process)
    finally:
        await process.stop()


async def _is_up(settings: Settings) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"{settings.url}/health")).status_code == 200
        except httpx.TransportError:
            return False
