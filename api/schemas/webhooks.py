"""The secret that signs webhooks, and the log of their deliveries."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.moments import Moment
from core import webhooks
from core.lifecycle import DeliveryStatus, WebhookEvent


class SecretResponse(BaseModel):
    """What receivers verify with."""

    key: str = Field(description="The signing secret: `whsec_` and 24 bytes in base64.")


class RotationResponse(SecretResponse):
    """The new secret."""

    previous_expires_at: datetime = Field(description="Until then the secret before signs each webhook as well.")


class DeliveryResponse(BaseModel):
    """The end of one prediction, or an alert about money, owed to one URL. Starts, outputs and logs are sent once, and
    leave no trace."""

    id: str = Field(description="The `webhook-id` that receivers get, the same at each attempt.")
    prediction: str | None = Field(description="Id of the prediction; null for what is about none.")
    event: WebhookEvent | Literal["billing.alert"]
    url: str
    status: DeliveryStatus = Field(
        description="`pending`: owed; `delivered`: answered 2xx; `given_up`: all attempts failed, or one got a 410."
    )
    attempt_count: int = Field(description="How often it has been tried, or is being tried.")
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="While it is pending.")
    delivered_at: datetime | None = Field(description="When it was last answered 2xx.")


class AttemptResponse(BaseModel):
    """One HTTP request."""

    number: int
    created_at: datetime = Field(description="When it had ended.")
    http_status: int | None = Field(description="None: there was no answer, and `error` says why.")
    error: str | None = Field(description="What went wrong, or where it was redirected.")
    duration_ms: int


class DeliveryWithAttemptsResponse(DeliveryResponse):
    """A delivery with every attempt on record, oldest first."""

    attempts: list[AttemptResponse]


class RecoverRequest(BaseModel):
    """Which deliveries to send again: those made in that time that have failed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    since: Moment
    until: Moment | None = Field(None, description="Default: now.")


class RecoverResponse(BaseModel):
    """What was made due."""

    recovered: int = Field(
        description=f"How many, the oldest first; {webhooks.RECOVERED_AT_ONCE}: there may be more, ask again."
    )
