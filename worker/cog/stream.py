"""Newer Cog's server-sent events, turned into ours. Pure."""

from typing import Any

from worker.cog.outcome import GARBLED, LAGGED, STATUSES, OutputType, done
from worker.events import Done, Event, Log, Metric, Output

METRIC_MODES = {"replace": "replace", "increment": "incr", "append": "append"}


def translate(name: bytes, payload: Any, prediction_id: str, output_type: OutputType) -> list[Event]:
    """None, one, or at the end up to two events."""
    try:
        if name == b"output":
            # A list comes item by item even where the model returned it whole.
            return [Output(payload["chunk"], payload["index"])] if output_type.iterates else []
        if name == b"log":
            return [Log(payload["data"])]
        if name == b"metric":
            return [Metric(payload["name"], payload["value"], METRIC_MODES[payload["mode"]])]
        if name == b"completed":
            return _completed(payload, prediction_id, output_type)
    except (KeyError, TypeError):
        return [Done("failed", error=GARBLED, container_lost=True)]
    if name == b"error":
        return [Done("failed", error=LAGGED)]
    return []


def _completed(payload: Any, prediction_id: str, output_type: OutputType) -> list[Event]:
    if payload["id"] != prediction_id or payload["status"] not in STATUSES:
        return [Done("failed", error=GARBLED, container_lost=True)]
    end = done(payload, output_type, classic=False)
    whole = not output_type.iterates and end.output is not None
    return [Output(end.output, 0), end] if whole else [end]
