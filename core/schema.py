"""What a Version's OpenAPI document says of its output. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The stream of an output of which nothing is known yet.
UNKNOWN_STREAM = "text"


@dataclass(frozen=True, slots=True)
class OutputKind:
    """`is_iterator`: it comes in chunks, and grows in the row while the model runs. `holds_files`: it is, or contains,
    files."""

    is_iterator: bool
    holds_files: bool

    @property
    def stream_kind(self) -> str | None:
        """`files` or `text` where listening makes sense: files that are ready before the end, or chunks to come."""
        if self.holds_files:
            return "files"
        return "text" if self.is_iterator else None


def output_schema(openapi_schema: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The `Output` component; empty while the document is not known."""
    return (openapi_schema or {}).get("components", {}).get("schemas", {}).get("Output", {})


def output_kind(openapi_schema: Mapping[str, Any] | None) -> OutputKind:
    output = output_schema(openapi_schema)
    return OutputKind(output.get("x-cog-array-type") == "iterator", _mentions_file(output))


def _mentions_file(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_mentions_file, schema))
    if isinstance(schema, Mapping):
        return schema.get("format") == "uri" or any(map(_mentions_file, schema.values()))
    return False
