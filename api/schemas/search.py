"""What a search finds."""

from pydantic import BaseModel, Field

from api.schemas.collections import CollectionItem
from api.schemas.models import ModelResponse


class FoundMetadata(BaseModel):
    """About a Model that was found."""

    generated_description: str = Field(description="Its description; empty if it has none.")
    tags: list[str] = Field(description="Always empty.")
    score: float = Field(description="How well it fits; comparable within one answer.")


class FoundModel(BaseModel):
    model: ModelResponse
    metadata: FoundMetadata


class FoundCollection(CollectionItem):
    models: list[str] = Field(description="`owner/name` of each.")


class FoundPage(BaseModel):
    name: str
    href: str = Field(description="Path on this server.")


class SearchResponse(BaseModel):
    """The most relevant first."""

    query: str
    models: list[FoundModel]
    collections: list[FoundCollection]
    pages: list[FoundPage]
