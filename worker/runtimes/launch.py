"""How a Cog server is started: command, environment and schema file. The same for every runtime; pure.

Knows the process contract of Cog, classic and new; knows nothing of containers, venvs or folders.
"""

import copy
from collections.abc import Mapping
from typing import Any

from worker.runtimes.base import ContainerSpec

COG_PORT = 5000
SCHEMA_FILE = ".cog/openapi_schema.json"

# Classic Cog drops the `start` webhook below 0.1 s; the default of 0.5 s is five times too slow for a live stream.
_RESPONSE_INTERVAL_SECONDS = "0.1"


def command(uploads_url: str | None, alias: str, python: str = "python") -> list[str]:
    """Explicit shutdown keeps a server up whose setup failed, so that its logs can still be read."""
    uploads = ["--upload-url", f"{uploads_url}/{alias}/"] if uploads_url else []
    return [python, "-m", "cog.server.http", "--await-explicit-shutdown", "true", *uploads]


def environment(spec: ContainerSpec, port: int = COG_PORT) -> dict[str, str]:
    """What the Version asked for, and over it what Millrace has to decide. No credentials: the model is untrusted."""
    ours = {
        "PORT": str(port),
        "COG_MAX_CONCURRENCY": str(spec.slots),
        "COG_THROTTLE_RESPONSE_INTERVAL": _RESPONSE_INTERVAL_SECONDS,
    }
    if spec.setup_timeout_seconds:
        ours["COG_SETUP_TIMEOUT"] = str(spec.setup_timeout_seconds)
    return {**spec.environment, **ours}


def streaming_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that allows event streams. Cog >= 0.21 streams every model whose schema file carries this flag."""
    result = copy.deepcopy(dict(schema))
    result.setdefault("paths", {}).setdefault("/predictions", {}).setdefault("post", {})["x-cog-streaming"] = True
    return result
