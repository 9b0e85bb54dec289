"""What a node keeps of its membership, in its data folder, for nobody else to read."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from core.joining.certificates import expiry, fingerprint, is_due
from core.settings import Settings

_FILE = "member.json"


@dataclass(frozen=True, slots=True)
class Credentials:
    """`given` is what the gateway said last that a node needs: settings, and what to reach its servers with."""

    node: str
    address: str
    authority: str
    key: str
    certificate: str
    given: dict[str, Any]

    @classmethod
    def load(cls, settings: Settings) -> Self | None:
        file = _file(settings)
        return cls(**orjson.loads(file.read_bytes())) if file.exists() else None

    def save(self, settings: Settings) -> None:
        """Whole or not at all."""
        file = _file(settings)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".unfinished")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as content:
            content.write(orjson.dumps(asdict(self)))
            content.flush()
            os.fsync(content.fileno())
        draft.replace(file)

    @property
    def fingerprint(self) -> str:
        """Of the authority that this node trusts."""
        return fingerprint(self.authority)

    @property
    def is_due(self) -> bool:
        return is_due(self.certificate)

    @property
    def expires(self) -> str:
        return f"{expiry(self.certificate):%Y-%m-%d}"


def _file(settings: Settings) -> Path:
    return settings.data.expanduser() / _FILE
