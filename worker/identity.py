"""What must outlive the node's process: the port and the secret of its endpoint, which running containers still use."""

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from core.ids import new_secret
from core.settings import Settings


@dataclass(frozen=True, slots=True)
class Identity:
    port: int
    secret: str


def load_identity(settings: Settings) -> Identity:
    """The one kept under the data folder, made on the first start."""
    file: Path = settings.data / "node" / f"{settings.node}.json"
    if file.exists():
        return Identity(**orjson.loads(file.read_bytes()))
    made = Identity(_free_port(), new_secret())
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".tmp")
    draft.touch(mode=0o600)
    draft.write_bytes(orjson.dumps(asdict(made)))
    os.replace(draft, file)
    return made


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
