"""A gateway as a real process, what machines need to join through it, and a node that does."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Row

from core import fleet, health
from core.joining import tokens
from core.joining.certificates import load_authority
from core.joining.tokens import JoinSecret
from core.resources import Resources
from core.settings import Settings, process_environment
from tests.support.bundles import data_folder
from tests.support.process import Process

START_SECONDS = 60.0
#: A node reads its GPUs and its runtimes first, and joins by several connections.
UP_SECONDS = 240.0
_LOOK_SECONDS = 0.05


def environment_of(settings: Settings) -> dict[str, str]:
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return {f"MILLRACE_{name.upper()}": str(value) for name, value in given.items()}


class GatewayProcess:
    """`python -m api.gateway` for the control plane that has these resources."""

    def __init__(self, resources: Resources, port: int, host: str = "127.0.0.1") -> None:
        settings = resources.settings
        self.settings = settings.model_copy(update={"gateway_port": port, "host": host})
        self.resources = resources
        self.address = f"{host}:{port}"
        environment = {**process_environment(), **environment_of(self.settings)}
        environment |= {"MILLRACE_GATEWAY_PORT": str(port), "MILLRACE_HOST": host, "MILLRACE_LOG_JSON": "false"}
        command = (sys.executable, "-m", "api.gateway")
        self.process = Process("gateway", command, environment, settings.data / "gateway.log")

    @property
    def fingerprint(self) -> str:
        return load_authority(self.settings.data).fingerprint

    def log(self) -> str:
        return self.process.log.read_text(errors="replace")

    async def start(self) -> None:
        health.forget(self.settings, "gateway")
        self.process.start()
        deadline = time.monotonic() + START_SECONDS
        while not health.is_alive(self.settings, "gateway"):
            alive = self.process.is_running and time.monotonic() < deadline
            assert alive, f"The gateway is not up:\n{self.process.tail()}"
            await asyncio.sleep(_LOOK_SECONDS)

    async def stop(self) -> None:
        await self.process.stop()

    async def token(self, lifetime_seconds: float = 3600, max_uses: int = 1) -> JoinSecret:
        async with self.resources.database.transaction() as tx:
            return await tokens.create(tx, "test", lifetime_seconds, max_uses, self.fingerprint, self.address)


def machine(data: Path, token: JoinSecret | str, name: str, **changes: Any) -> Settings:
    """The settings of another machine, which knows of no server but the gateway."""
    data.mkdir(parents=True, exist_ok=True)
    return Settings(**{"data": data, "join": str(token), "node_name": name, **changes})


@asynccontextmanager
async def joined_node(
    gateway: GatewayProcess, data: Path, name: str, wrapper: Sequence[str] = (), **changes: str
) -> AsyncIterator[Process]:
    """Started with the one command, and stopped in order; leaves no model process behind."""
    process = node_process(str(await gateway.token()), data, name, wrapper, **changes)
    process.start()
    try:
        await up(gateway, process)
        yield process
    except BaseException:
        sys.stderr.write(f"--- {name} ---\n{process.tail()}\n--- gateway ---\n{gateway.process.tail()}\n")
        raise
    finally:
        await process.stop()
        assert not model_processes(data)


def node_process(token: str, data: Path, name: str, wrapper: Sequence[str] = (), **changes: str) -> Process:
    """Of a machine that has nothing but a token."""
    environment = {
        **process_environment(),
        "MILLRACE_DATA": str(data_folder(data)),
        "MILLRACE_JOIN": token,
        "MILLRACE_NODE_NAME": name,
        "MILLRACE_RUNTIME": "process",
        "MILLRACE_LOG_JSON": "false",
        **changes,
    }
    return Process(name, (*wrapper, sys.executable, "-m", "worker", "node"), environment, data / "node.log")


async def up(gateway: GatewayProcess, process: Process) -> Row:
    """Its row, once it reports."""
    deadline = time.monotonic() + UP_SECONDS
    while True:
        assert process.is_running, f"It ended:\n{process.tail()}"
        async with gateway.resources.database.autocommit() as tx:
            if found := [row for row in await fleet.live_nodes(tx) if row.name == process.name]:
                return found[0]
        assert time.monotonic() < deadline, f"It does not report:\n{process.tail()}"
        await asyncio.sleep(_LOOK_SECONDS)


def model_processes(data: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _home(process).startswith(str(data / "instances"))]


def _home(process: psutil.Process) -> str:
    try:
        return process.environ().get("HOME", "")
    except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
        return ""
