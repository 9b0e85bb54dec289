"""Bodies of requests about Models, and the Model itself as it is shown."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import MISSING, BaseModel, ConfigDict, Field

from api.schemas.common import Url
from api.schemas.predictions import Prediction
from api.schemas.urls import HttpUrl
from api.schemas.versions import VersionResponse

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"
MAX_NAME = 100

Visibility = Literal["public", "private"]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=MAX_NAME)]
Sku = Annotated[str, Field(min_length=1, max_length=100, description="SKU of the hardware it runs on.")]
Description = Annotated[str, Field(max_length=4000)]


class ModelRequest(BaseModel):
    """A new Model, still without a Version."""

    model_config = ConfigDict(extra="forbid", strict=True)

    owner: str = Field(max_length=MAX_NAME, description="The account that the token speaks for.")
    name: Name
    visibility: Visibility = Field(description="A public Model is seen and run by anyone, a private one by its owner.")
    hardware: Sku
    description: Description | None = None
    github_url: HttpUrl | None = None
    paper_url: HttpUrl | None = None
    license_url: HttpUrl | None = None
    cover_image_url: HttpUrl | None = None


class ModelChanges(BaseModel):
    """What is left out stays as it is; null clears it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    description: Description | None = None
    readme: str | None = Field(None, max_length=400_000, description="Markdown.")
    github_url: HttpUrl | None = None
    paper_url: HttpUrl | None = None
    weights_url: HttpUrl | None = None
    license_url: HttpUrl | None = None
    cover_image_url: HttpUrl | None = None
    # What a Model always has cannot be cleared: left out, or a value.
    visibility: Visibility | MISSING = MISSING
    hardware: Sku | MISSING = MISSING


class ExampleRequest(BaseModel):
    """A prediction of the owner's that succeeded, to be shown to all who see the Model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prediction: str = Field(min_length=1, max_length=100, description="Its id.")


class ModelResponse(BaseModel):
    """A Model, its latest Version and its default example."""

    url: Url = Field(description="Its page.")
    owner: str
    name: str
    description: str | None
    visibility: Visibility
    github_url: Url | None
    paper_url: Url | None
    license_url: Url | None
    cover_image_url: Url | None = Field(description="The one it was given, else an image from its default example.")
    run_count: int = Field(description="Runs of everybody; up to half a minute old.")
    default_example: Prediction | None = Field(description="The first of its examples.")
    is_official: bool = Field(description="Always false.")
    created_at: datetime
    latest_version: VersionResponse | None
