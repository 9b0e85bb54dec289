"""What a running prediction tells the runner, in the order it happened.

Both Cog families are translated into these; nothing else crosses from `worker/cog.py` to `worker/runner.py`.
"""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Started:
    """The container accepted the prediction."""


@dataclass(frozen=True, slots=True)
class Log:
    """Text the model printed since the last `Log`, line ends included."""

    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """One chunk of an iterator's output, or the whole output of any other model."""

    chunk: Any
    index: int


@dataclass(frozen=True, slots=True)
class Metric:
    """A number the model recorded; `mode` is `replace`, `incr` or `append`."""

    name: str
    value: Any
    mode: str = "replace"


@dataclass(frozen=True, slots=True)
class Done:
    """The end, always the last event. `container_lost` asks for a fresh container."""

    status: Literal["succeeded", "failed", "canceled"]
    output: Any = None
    error: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    container_lost: bool = False


Event = Started | Log | Output | Metric | Done
