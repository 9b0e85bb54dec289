"""Shapes that every noun has. Responses are documented by these, and rendered by `Json` without passing through them.

`x: T | None` is always there and may be null; `x: T | MISSING = MISSING` may be left out and is never null, since
Python 1.x and Swift break on a null where they expect nothing.
"""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, Field

T = TypeVar("T")

Url = Annotated[str, Field(json_schema_extra={"format": "uri"})]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


#: For integers of a request: to JSON Schema 2.0 is one, too. Stands after `Field`, or the schema loses the bounds.
WHOLE = BeforeValidator(_whole)


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    next: Url | None = Field(description="URL of the next page, whole and ready to be called; null on the last one.")
    previous: Url | None = Field(description="Always null: pages are read forwards.")
    results: list[T]
