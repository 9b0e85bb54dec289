"""Bodies of training requests, and the training itself as it is shown."""

from datetime import datetime
from typing import Any, Literal

from pydantic import MISSING, BaseModel, Field

from api.schemas.common import Url
from api.schemas.predictions import Metrics, RunRequest
from core.lifecycle import PredictionStatus, WebhookEvent


class TrainingRequest(RunRequest):
    """A run of the trainer of the Version that the path names."""

    destination: str = Field(
        min_length=1, max_length=300, description="`owner/name` of the caller's own model that gets the new Version."
    )
    version: str | None = Field(
        None,
        max_length=500,
        description="Ignored: the path names it. The Go client says it here, too.",
        json_schema_extra={"deprecated": True},
    )


class TrainingOutput(BaseModel):
    """What a training made."""

    version: str = Field(description="`owner/name:<64 hex>`: the new Version.")
    weights: Url | MISSING = MISSING


class TrainingUrls(BaseModel):
    get: Url
    cancel: Url
    web: Url


class Training(BaseModel):
    """One run of a Version's trainer, which makes a new Version."""

    id: str
    model: str = Field(description="`owner/name` of the model that is trained.")
    version: str = Field(description="Id of the Version that is trained.")
    status: PredictionStatus
    input: dict[str, Any]
    output: TrainingOutput | None = Field(description="Null until it has succeeded.")
    error: str | None
    logs: str | MISSING = Field(MISSING, description="Left out of lists.")
    metrics: Metrics
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    source: Literal["api", "web"]
    webhook: str | MISSING = MISSING
    webhook_events_filter: list[WebhookEvent] | MISSING = MISSING
    urls: TrainingUrls
