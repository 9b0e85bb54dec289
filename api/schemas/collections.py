"""Collections in requests and in answers."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.models import ModelResponse

ModelName = Annotated[str, Field(min_length=3, max_length=201, description="`owner/name`.")]


class CollectionRequest(BaseModel):
    """All of a collection: what is left out is emptied."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=200)
    description: str = Field("", max_length=4000)
    full_description: str | None = Field(None, max_length=100_000, description="Markdown.")
    models: list[ModelName] = Field(default_factory=list, max_length=200, description="In the order to show them in.")


class CollectionItem(BaseModel):
    """A collection as lists show it."""

    name: str
    slug: str = Field(description="Its name in URLs.")
    description: str


class CollectionResponse(CollectionItem):
    """A collection with its Models, as far as the caller may see them."""

    full_description: str | None = Field(description="Markdown.")
    models: list[ModelResponse]
