"""What `/health-check` says, in one shape for every Cog family. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["starting", "ready", "busy", "unhealthy", "setup_failed", "defunct", "unknown"]

STATUSES: dict[str, Status] = {
    "STARTING": "starting",
    "READY": "ready",
    "BUSY": "busy",
    "UNHEALTHY": "unhealthy",
    "SETUP_FAILED": "setup_failed",
    "DEFUNCT": "defunct",
}
FIRST_STREAMING_VERSION = (0, 21)
# Newer Cog says UNHEALTHY both when the model's own healthcheck() says no, which may pass, and when its worker is dead.
DEAD_WORKER = re.compile(r"protocol error|channel closed|Worker crashed", re.IGNORECASE)
# Newer Cog mixes its own lines into the logs of setup, and names itself before the model's, too.
RUNTIME_LINE = re.compile(r"^\[coglet(?!::setup\])[^\]\n]*\] .*\n?|^\[coglet::setup\] ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Health:
    """`streams`: it speaks server-sent events. `recycle`: it can never predict again and must be replaced."""

    status: Status
    setup_logs: str = ""
    error: str | None = None
    streams: bool = False
    recycle: bool = False
    version: str | None = None

    @property
    def accepts_predictions(self) -> bool:
        """A container whose own healthcheck() says no still takes predictions."""
        return self.status in ("ready", "busy") or (self.status == "unhealthy" and not self.recycle)


def unreachable(reason: object) -> Health:
    return Health("unknown", error=f"The container does not answer on its port: {reason}")


def parse(body: Any) -> Health:
    """Read a health document, which may be anything at all."""
    if not isinstance(body, Mapping):
        return Health("unknown", error="The container's /health-check did not answer with a JSON object.")
    status = STATUSES.get(str(body.get("status")), "unknown")
    version = _named(body.get("version"), "coglet")
    error = body.get("user_healthcheck_error")
    error = error if isinstance(error, str) else None
    return Health(
        status=status,
        setup_logs=RUNTIME_LINE.sub("", _named(body.get("setup"), "logs") or ""),
        error=error,
        streams=version is not None and _numbers(version) >= FIRST_STREAMING_VERSION,
        recycle=status in ("defunct", "setup_failed") or bool(error and DEAD_WORKER.search(error)),
        version=version,
    )


def _named(document: Any, name: str) -> str | None:
    value = document.get(name) if isinstance(document, Mapping) else None
    return value if isinstance(value, str) else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
