"""Shapes that every noun has. Responses are documented by these, and rendered by `Json` without passing through them.

`x: T | None` is always there and may be null; `x: T | MISSING = MISSING` may be left out and is never null, since
Python 1.x and Swift break on a null where they expect nothing.
"""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")

Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    next: Url | None = Field(description="URL of the next page, whole and ready to be called; null on the last one.")
    previous: Url | None = Field(description="Always null: pages are read forwards.")
    results: list[T]
