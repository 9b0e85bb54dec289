"""Bodies of requests about Versions, and the Version itself as it is shown."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from core.lifecycle import VersionStatus


class VersionRequest(BaseModel):
    """A new Version from an image that `cog build` made, by digest, so that it stays what it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(
        pattern=r"^[\w.\-]+(:\d+)?/[\w.\-/]+@sha256:[0-9a-f]{64}$",
        max_length=1000,
        description="registry/repository@sha256:<digest>",
    )
    hardware: str | None = Field(
        None, min_length=1, max_length=100, description="SKU it runs on; default: the Model's, or `cpu`."
    )


class VersionChanges(BaseModel):
    """What may change of a Version: nothing that runs."""

    model_config = ConfigDict(extra="forbid", strict=True)

    caches_results: bool = Field(
        description="Whether equal inputs give equal outputs, so that a request may ask for an earlier result."
    )


class VersionResponse(BaseModel):
    """One immutable version of a Model."""

    id: str = Field(description="64 hexadecimal digits.")
    created_at: datetime
    cog_version: str = Field(description="Empty while it is not known.")
    openapi_schema: dict[str, Any] = Field(description="The OpenAPI document of its container.")
    status: VersionStatus = Field(description="Whether it can run yet.")
    status_reason: str | None = Field(description="Why it could not be prepared.")
