"""The JSON shapes that more than one process shows: a prediction looks the same over HTTP and in a webhook."""

import hmac
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core import boots
from core.clock import rfc3339
from core.lifecycle import PredictionStatus
from core.queue import Priority
from core.settings import Settings

#: No released client knows `aborted`: Python 1.x raises on it, the others wait for ever.
_ON_THE_WIRE = {PredictionStatus.ABORTED: PredictionStatus.CANCELED}

#: Instead of a `Secret` input, to its owner as well: what is shown is also logged, mailed and cached.
_REDACTED = "**********"


def prediction(settings: Settings, row: Row, output: Any) -> dict[str, Any]:
    """As `GET /v1/predictions/<id>` answers. `output` is the row's, with files as URLs or data URIs."""
    return {**listed(settings, row, output), "logs": row.logs}


def listed(settings: Settings, row: Row, output: Any) -> dict[str, Any]:
    """As it stands in a list, without its logs."""
    document = {
        "id": row.id,
        "model": row.model,
        "version": row.version_id,
        "input": _shown_input(row),
        "output": output,
        "error": row.error,
        "status": row.status if settings.show_aborted else _ON_THE_WIRE.get(row.status, row.status),
        "data_removed": row.data_removed,
        "source": row.source,
        "created_at": rfc3339(row.created_at),
        "started_at": rfc3339(row.started_at),
        "completed_at": rfc3339(row.completed_at),
        "metrics": _metrics(row),
        "urls": _urls(settings, row),
    }
    if row.deployment is not None:
        document["deployment"] = row.deployment
    if row.cached_from is not None:
        document["cache"] = {"hit": True, "prediction": row.cached_from}
    if row.tags:
        document["tags"] = row.tags
    if row.priority != Priority.NORMAL:
        document["priority"] = row.priority
    if row.deadline_at is not None:
        document["deadline"] = rfc3339(row.deadline_at)
    if row.webhook_url is not None:
        document["webhook"] = row.webhook_url
        if row.webhook_events is not None:
            document["webhook_events_filter"] = row.webhook_events
    if row.status == PredictionStatus.STARTING:
        document["queue"] = {"position": None, "reason": row.queue_reason, "estimated_seconds": None}
    return document


def _shown_input(row: Row) -> dict[str, Any]:
    if not row.secret_inputs:
        return row.input
    return {name: _REDACTED if name in row.secret_inputs else value for name, value in row.input.items()}


def _metrics(row: Row) -> dict[str, Any]:
    """The model's own and `predict_time`, and what the row's moments tell: seconds, all by the database's clock.

    The phases do not overlap: it waited in the queue, then for each phase of a container's boot; then it ran.
    """
    if row.completed_at is None:
        return row.metrics
    metrics = {**row.metrics, "total_time": _seconds(row.created_at, row.completed_at)}
    if row.started_at is not None:
        booting = {f"{phase}_time": getattr(row, f"{phase}_seconds") or 0.0 for phase in boots.PHASES}
        queued = max(0.0, _seconds(row.created_at, row.started_at) - sum(booting.values()))
        metrics |= {phase: round(seconds, 6) for phase, seconds in {"queue_time": queued, **booting}.items()}
    return metrics


def _seconds(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())


def _urls(settings: Settings, row: Row) -> dict[str, str]:
    base = prediction_url(settings, row.id)
    urls = {"get": base, "cancel": f"{base}/cancel", "web": f"{settings.url}/p/{row.id}"}
    if row.stream_kind:
        # The JavaScript client takes what comes from under /v1/files/ for files, and anything else for text.
        folder = "files/streams" if row.stream_kind == "files" else "streams"
        urls["stream"] = f"{settings.url}/v1/{folder}/{stream_capability(settings, row.id)}"
    return urls


def prediction_url(settings: Settings, prediction_id: str) -> str:
    return f"{settings.url}/v1/predictions/{prediction_id}"


def stream_capability(settings: Settings, prediction_id: str) -> str:
    """Whoever has it may listen, without a token, since browsers and most clients send none to a stream."""
    return prediction_id + hmac.digest(settings.secret.encode(), f"stream {prediction_id}".encode(), "sha256").hex()


def prediction_of_stream(settings: Settings, capability: str) -> str | None:
    """The id of the prediction a stream capability stands for; None if it is forged."""
    prediction_id = capability[:26]
    genuine = hmac.compare_digest(stream_capability(settings, prediction_id).encode(), capability.encode())
    return prediction_id if genuine else None
