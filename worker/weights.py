"""Weights that Cog keeps beside an image: manifests of their own in one index with it, each a set of tar layers.

Which there are is read once, as a Version is prepared, and kept in its config under a key that no cog.yaml has. Pure.
Format: Cog's managed weights, v1 (`application/vnd.cog.weight.v1`).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

ARTIFACT_TYPE = "application/vnd.cog.weight.v1"
TARGET = "run.cog.weight.target"
#: Cog's server does not set a model up before it finds this below each target.
READY = ".cog/ready"
_KEY = "millrace_weights"
#: Folders at the root of a container in which a runtime, or its kernel, has something of its own.
_TAKEN = ("dev", "proc", "sys", "tmp", "var")


class BadTarget(ValueError):
    """They would be put where no weights can be."""


@dataclass(frozen=True, slots=True)
class Weights:
    """`target`: the folder in the container; `layers`: digests of tar archives, whose paths are relative to it."""

    target: str
    layers: tuple[str, ...]

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> "Weights":
        """Raises `BadTarget`."""
        target = str((manifest.get("annotations") or {}).get(TARGET) or "")
        path = PurePosixPath(target)
        if not path.is_absolute() or len(path.parts) < 2 or path.parts[1] in _TAKEN:
            raise BadTarget(target)
        if ".." in path.parts or ":" in target:
            raise BadTarget(target)
        return cls(str(path), tuple(layer["digest"] for layer in manifest.get("layers") or ()))

    def named(self, repository: str, labels: Mapping[str, str]) -> str:
        """Of their volume. Those of another repository are not the same: whoever knows a digest may not read them."""
        told = json.dumps([repository, self.target, self.layers, labels], sort_keys=True)
        return f"millrace-weights-{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def check(found: Sequence[Weights]) -> None:
    """Raises `BadTarget` where one is within another."""
    for each in found:
        path = PurePosixPath(each.target)
        if any(path.is_relative_to(other.target) for other in found if other is not each):
            raise BadTarget(each.target)


def kept(config: Mapping[str, Any], found: Sequence[Weights]) -> dict[str, Any]:
    """The config of a Version that has these, whatever it says of itself."""
    rest = {name: value for name, value in config.items() if name != _KEY}
    return {**rest, _KEY: [asdict(each) for each in found]} if found else rest


def of(config: Mapping[str, Any]) -> tuple[Weights, ...]:
    return tuple(Weights(each["target"], tuple(each["layers"])) for each in config.get(_KEY) or ())
