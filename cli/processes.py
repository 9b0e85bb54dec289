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
_GRACE_SECONDS = 10.0
#: Building an environment may take minutes; the next start does it again.
_JOBS_GRACE_SECONDS = 3.0
#: Once what runs has finished, or may not any longer, a node removes its containers.
_REMOVAL_SECONDS = 15.0


def wanted(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Those of this installation."""
    return {**PROCESSES, **GATEWAY} if settings.gateway_port else PROCESSES


def process(forge: Forge, name: str, drain_seconds: float) -> Service:
    module, *arguments = {**PROCESSES, **GATEWAY}[name]
    grace = {"node": drain_seconds + _REMOVAL_SECONDS, "jobs": _JOBS_GRACE_SECONDS}.get(name, _GRACE_SECONDS)
    renew = signal.SIGHUP if name == "node" else None
    return Service(name, Module(forge, module, arguments), grace_seconds=grace, renew_signal=renew)


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
