"""What must outlive the node's process: ports and secret of its endpoints, which running containers still use."""

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from core.ids import new_secret
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Identity:
    """`ports` by the name of the runtime whose containers call there."""

    secret: str
    ports: dict[str, int]


def load_identity(settings: Settings, runtimes: list[str]) -> Identity:
    """The one kept under the data folder, made on the first start and completed when a runtime is added."""
    file: Path = settings.data / "node" / f"{settings.node}.json"
    kept = Identity(**orjson.loads(file.read_bytes())) if file.exists() else Identity(new_secret(), {})
    missing = {name: _free_port() for name in runtimes if name not in kept.ports}
    if not missing:
        return kept
    completed = Identity(kept.secret, {**kept.ports, **missing})
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".tmp")
    draft.touch(mode=0o600)
    draft.write_bytes(orjson.dumps(asdict(completed)))
    os.replace(draft, file)
    return completed


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
