"""Bodies of prediction requests."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from core.lifecycle import WebhookEvent

#: For readers of the schema. `Field(deprecated=True)` would also warn the server itself, at every request.
_DEPRECATED = {"deprecated": True}


def _http_url(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise PydanticCustomError("format", "Must be an http(s) URL")
    return url


WebhookUrl = Annotated[str, Field(max_length=4000), AfterValidator(_http_url)]


class RunRequest(BaseModel):
    """A run of a model that the path names."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: dict[str, Any]
    webhook: WebhookUrl | None = None
    webhook_events_filter: list[Annotated[WebhookEvent, Field(strict=False)]] | None = None
    webhook_completed: WebhookUrl | None = Field(
        None, description="`webhook`, completion only.", json_schema_extra=_DEPRECATED
    )
    stream: bool | None = Field(
        None, description="Ignored: `urls.stream` is always there.", json_schema_extra=_DEPRECATED
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
