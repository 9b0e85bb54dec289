"""Bodies of requests about models."""

from pydantic import BaseModel, ConfigDict, Field


class VersionRequest(BaseModel):
    """A new Version from an image that `cog build` made, by digest, so that it stays what it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(
        pattern=r"^[\w.\-]+(:\d+)?/[\w.\-/]+@sha256:[0-9a-f]{64}$",
        max_length=1000,
        description="registry/repository@sha256:<digest>",
    )
    hardware: str | None = Field(None, max_length=100, description="SKU it runs on; default: the Model's, or `cpu`.")
