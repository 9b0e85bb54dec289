"""Bodies of prediction requests, and the prediction itself as it is shown."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import MISSING, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from api.schemas.common import Url
from api.schemas.urls import HttpUrl
from core.lifecycle import PredictionStatus, WebhookEvent
from core.queue import Priority

#: For readers of the schema. `Field(deprecated=True)` would also warn the server itself, at every request.
_DEPRECATED = {"deprecated": True}


def _iso_moment(text: Any) -> datetime:
    # pydantic takes any number for a moment as well.
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise PydanticCustomError("format", "Must be a moment like 2026-01-02T03:04:05Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


#: UTC where it names no zone, as Python says its moments.
IsoMoment = Annotated[datetime, BeforeValidator(_iso_moment)]


class RunRequest(BaseModel):
    """A run of a model that the path names."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: dict[str, Any] = Field(description="What the model's own schema asks for; files as URLs or data URIs.")
    webhook: HttpUrl | None = Field(None, description="Where to send the prediction as it goes on.")
    webhook_events_filter: list[Annotated[WebhookEvent, Field(strict=False)]] | None = Field(
        None, max_length=16, description="When to send it; default: `output` and `completed`."
    )
    webhook_completed: HttpUrl | None = Field(
        None, description="`webhook`, completion only.", json_schema_extra=_DEPRECATED
    )
    stream: bool | None = Field(
        None, description="Ignored: `urls.stream` is there where the model streams.", json_schema_extra=_DEPRECATED
    )

    @property
    def webhook_url(self) -> str | None:
        return self.webhook or self.webhook_completed

    @property
    def webhook_events(self) -> list[str] | None:
        if self.webhook is None and self.webhook_completed is not None:
            return [WebhookEvent.COMPLETED]
        return self.webhook_events_filter


class PredictionRequest(RunRequest):
    """A run of a Version: `<64 hex>`, `owner/name:<64 hex>` or `owner/name`."""

    version: str = Field(min_length=1, max_length=500)


class PredictionUrls(BaseModel):
    """What can be done with it."""

    get: Url
    cancel: Url
    web: Url = Field(description="Its page.")
    stream: Url | MISSING = Field(MISSING, description="Its output as server-sent events; needs no token.")


class Metrics(BaseModel):
    """How long it took, in seconds, and whatever else the model measured. Complete once it has ended."""

    model_config = ConfigDict(extra="allow")

    predict_time: float | MISSING = Field(MISSING, description="Running, without waiting.")
    total_time: float | MISSING = Field(MISSING, description="From its creation to its end.")
    queue_time: float | MISSING = Field(MISSING, description="Waiting for its turn.")
    pull_time: float | MISSING = Field(MISSING, description="Waiting for its image or bundle to be there.")
    create_time: float | MISSING = Field(MISSING, description="Waiting for its container to be made.")
    boot_time: float | MISSING = Field(MISSING, description="Waiting for the server in it to come up.")
    setup_time: float | MISSING = Field(MISSING, description="Waiting for the model's setup.")


class Queue(BaseModel):
    """Why it has not started yet. What nobody knows is null."""

    position: int | None = Field(description="How many are ahead of it; 0: it is next.")
    reason: str | None
    estimated_seconds: float | None


class CacheHit(BaseModel):
    hit: Literal[True]
    prediction: str = Field(description="Id of the earlier prediction that ran.")


class Prediction(BaseModel):
    """One run of a Version on one input."""

    id: str
    model: str = Field(description="`owner/name` of the model.")
    version: str = Field(description="Id of the Version.")
    status: PredictionStatus = Field(
        description="`aborted` is shown only where the server's administrator has chosen so, else it is `canceled`."
    )
    input: dict[str, Any] = Field(description="As given, but secrets; empty once the data are removed.")
    output: Any = Field(description="Whatever the model returns; files as URLs or data URIs.")
    error: str | None = Field(description="Why it failed; null if it did not.")
    logs: str | MISSING = Field(MISSING, description="Left out of lists.")
    metrics: Metrics
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None = Field(description="When it had ended and its files were kept.")
    deadline: datetime | MISSING = Field(MISSING, description="When it is canceled, if `Cancel-After` was given.")
    data_removed: bool = Field(description="Whether its input, output and logs are gone: they are kept for a while.")
    source: Literal["api", "web"]
    deployment: str | MISSING = Field(MISSING, description="The deployment that it was sent to.")
    webhook: str | MISSING = MISSING
    webhook_events_filter: list[WebhookEvent] | MISSING = MISSING
    queue: Queue | MISSING = Field(MISSING, description="While it waits.")
    cache: CacheHit | MISSING = Field(MISSING, description="Where it was given an earlier result instead of running.")
    tags: dict[str, str] | MISSING = Field(MISSING, description="By which its account tells its costs apart.")
    priority: Literal[Priority.LOW] | MISSING = Field(
        MISSING,
        description="`low`: it is taken when nothing else waits for the same model. Left out where it is normal.",
    )
    urls: PredictionUrls
