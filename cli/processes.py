"""The processes of one box as services: what they are started with, and how long each may take to stop."""

import signal
from pathlib import Path

from cli.installation import Installation
from cli.launching import Forge, Module, Program
from cli.supervisor import Service
from core.settings import Settings

#: Millrace's own, in the order in which they start; they stop in the opposite one, so that nothing new comes in first.
PROCESSES = {
    "jobs": ("worker", "jobs"),
    "webhooks": ("worker", "webhooks"),
    "scheduler": ("scheduler",),
    "node": ("worker", "node"),
    "api": ("api",),
}
#: Only where other machines may join.
GATEWAY = {"gateway": ("api.gateway",)}
_GRACE_SECONDS = {
    "node": 25.0,  # It finishes what runs.
    "jobs": 3.0,  # Building an environment may take minutes; the next start does it again.
}


def wanted(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Those of this installation."""
    return {**PROCESSES, **GATEWAY} if settings.gateway_port else PROCESSES


def process(forge: Forge, name: str) -> Service:
    module, *arguments = {**PROCESSES, **GATEWAY}[name]
    return Service(name, Module(forge, module, arguments), grace_seconds=_GRACE_SECONDS.get(name, 10.0))


def postgres(installation: Installation) -> Service:
    server = installation.postgres
    assert server is not None
    return Service(
        "postgres",
        Program(server.command, server_environment(installation, server.binaries), server.privileges),
        # To PostgreSQL SIGTERM means: when the last client has gone. SIGINT means now, SIGQUIT without tidying up.
        stop_signal=signal.SIGINT,
        hurry_signal=signal.SIGQUIT,
        grace_seconds=30.0,
        before_start=server.before_start,
    )


def redis(installation: Installation) -> Service:
    server = installation.redis
    assert server is not None
    return Service("redis", Program(server.command, server_environment(installation, Path(server.server).parent)))


def server_environment(installation: Installation, binaries: Path) -> dict[str, str]:
    """Next to nothing: LANG, PGDATA and the like must not change what the servers do."""
    return {"PATH": f"{binaries}:{installation.environment.get('PATH', '')}"}
