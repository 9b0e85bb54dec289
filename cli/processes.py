"""The processes of one box as services: what they are started with, and how long each may take to stop."""

import signal
import sys
from pathlib import Path

from cli.installation import Installation
from cli.supervisor import Service

#: Millrace's own, in the order in which they start; they stop in the opposite one, so that nothing new comes in first.
PROCESSES = {
    "jobs": ("worker", "jobs"),
    "webhooks": ("worker", "webhooks"),
    "scheduler": ("scheduler",),
    "node": ("worker", "node"),
    "api": ("api",),
}
_GRACE_SECONDS = {
    "node": 25.0,  # It finishes what runs.
    "jobs": 3.0,  # Building an environment may take minutes; the next start does it again.
}


def process(installation: Installation, name: str) -> Service:
    return Service(
        name,
        (sys.executable, "-m", *PROCESSES[name]),
        installation.environment,
        grace_seconds=_GRACE_SECONDS.get(name, 10.0),
    )


def postgres(installation: Installation) -> Service:
    server = installation.postgres
    assert server is not None
    return Service(
        "postgres",
        server.command,
        _server_environment(installation, server.binaries),
        privileges=server.privileges,
        # To PostgreSQL SIGTERM means: when the last client has gone. SIGINT means now, SIGQUIT without tidying up.
        stop_signal=signal.SIGINT,
        hurry_signal=signal.SIGQUIT,
        grace_seconds=30.0,
        before_start=server.before_start,
    )


def redis(installation: Installation) -> Service:
    server = installation.redis
    assert server is not None
    return Service("redis", server.command, _server_environment(installation, Path(server.server).parent))


def _server_environment(installation: Installation, binaries: Path) -> dict[str, str]:
    """Next to nothing: LANG, PGDATA and the like must not change what the servers do."""
    return {"PATH": f"{binaries}:{installation.environment.get('PATH', '')}"}
