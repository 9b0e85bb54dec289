"""A gateway as a real process, and what machines need to join through it."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from core import health
from core.joining import tokens
from core.joining.certificates import load_authority
from core.joining.tokens import JoinSecret
from core.resources import Resources
from core.settings import Settings, process_environment
from tests.support.process import Process

START_SECONDS = 60.0
_LOOK_SECONDS = 0.05


def environment_of(settings: Settings) -> dict[str, str]:
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return {f"MILLRACE_{name.upper()}": str(value) for name, value in given.items()}


class GatewayProcess:
    """`python -m api.gateway` for the control plane that has these resources."""

    def __init__(self, resources: Resources, port: int) -> None:
        settings = resources.settings
        self.settings = settings.model_copy(update={"gateway_port": port, "host": "127.0.0.1"})
        self.resources = resources
        self.address = f"127.0.0.1:{port}"
        environment = {**process_environment(), **environment_of(self.settings)}
        environment |= {"MILLRACE_GATEWAY_PORT": str(port), "MILLRACE_HOST": "127.0.0.1", "MILLRACE_LOG_JSON": "false"}
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
