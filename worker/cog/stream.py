"""Newer Cog's server-sent events, turned into ours. Pure."""

from typing import Any

from worker.cog.outcome import GARBLED, LAGGED, STATUSES, OutputType, done
from worker.events import Done, Event, Log, Metric, Output

METRIC_MODES = {"increment": "incr", "append": "append"}


def translate(name: bytes, payload: Any, prediction_id: str, output_type: OutputType) -> list[Event]:
    """None, one, or at the end up to two events."""
    match name, payload:
        case b"output", {"chunk": chunk, "index": int(index)}:
            # A list comes item by item even where the model returned it whole.
            return [Output(chunk, index)] if output_type.iterates else []
        case b"log", {"data": str(text)}:
            return [Log(text)]
        case b"metric", {"name": str(metric), "value": value, "mode": str(mode)}:
            return [Metric(metric, value, METRIC_MODES.get(mode, "replace"))]
        case b"completed", {"id": id, "status": status} if id == prediction_id and status in STATUSES:
            end = done(payload, output_type, classic=False)
            whole = not output_type.iterates and end.output is not None
            return [Output(end.output, 0), end] if whole else [end]
        case b"output" | b"log" | b"metric" | b"completed", _:
            return [Done("failed", error=GARBLED, container_lost=True)]
        case b"error", _:
            return [Done("failed", error=LAGGED)]
    return []
