"""What is known of a prediction that goes on in its container while the process that listens to it is replaced.

The connection itself is handed on: dropping one that created a prediction would cancel it. All here is plain data.
"""

import base64
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Line:
    """An open connection: a descriptor that is ours to close, and what was read from it but not understood yet."""

    fd: int
    unread: bytes
    received: int
    accepted: bool

    def as_dict(self) -> dict[str, Any]:
        unread = base64.b64encode(self.unread).decode()
        return {"fd": self.fd, "unread": unread, "received": self.received, "accepted": self.accepted}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        return cls(**{**fields, "unread": base64.b64decode(fields["unread"])})


@dataclass(frozen=True, slots=True)
class Told:
    """What older Cog has posted so far: the last post, and how much of it has been passed on."""

    post: dict[str, Any] | None
    logs: int = 0
    outputs: int = 0
    metrics: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """`line` is None once older Cog has accepted it; `told` is None for newer Cog, which streams."""

    line: Line | None
    told: Told | None

    def as_dict(self) -> dict[str, Any]:
        told = self.told and {name: getattr(self.told, name) for name in Told.__slots__}
        return {"line": self.line and self.line.as_dict(), "told": told}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        line, told = fields["line"], fields["told"]
        return cls(line and Line.of(line), told and Told(**told))


class HandedOver(Exception):
    """Raised between two events, once its container was told that we leave. `kept` is None where nothing was sent."""

    def __init__(self, kept: Kept | None) -> None:
        super().__init__("the listener is being replaced")
        self.kept = kept
