"""A Version's input schema, compiled once: drop what it does not know, coerce, validate, name every failing field.

Knows Cog's OpenAPI 3.0 dialect (`nullable`, `allOf` enums, `format: uri` files); knows nothing of HTTP or rows.
"""

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from core.errors import InvalidField, InvalidInput

#: What a file input may be. Cog passes any other string straight to the model as a path on the container's disk.
_FILE_SCHEMES = ("https://", "http://", "data:")

#: JSON Schema's keyword: the type by which Replicate reports it.
_ERROR_TYPES = {
    "required": "required",
    "enum": "enum",
    "type": "invalid_type",
    "minimum": "number_gte",
    "maximum": "number_lte",
    "minLength": "string_gte",
    "maxLength": "string_lte",
    "minItems": "array_min_items",
    "maxItems": "array_max_items",
    "additionalProperties": "additional_property_not_allowed",
}


class InputSchema:
    """Compiled from the OpenAPI document of a Cog container. Without a document, everything is accepted as it is."""

    def __init__(self, openapi_schema: Mapping[str, Any] | None) -> None:
        self._document = openapi_schema or {}
        schemas = self._document.get("components", {}).get("schemas", {})
        self._input = schemas.get("Input")
        self._properties: dict[str, Any] = (self._input or {}).get("properties", {})
        self._validator = self._input and jsonschema_rs.validator_for(
            {"components": _with_null(self._document["components"]), "$ref": "#/components/schemas/Input"}
        )

    def prepare(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The input as the container gets it. Raises `InvalidInput` naming every field that fails."""
        if self._validator is None:
            return dict(given)
        cleaned = {
            name: self._coerce(self._properties[name], value)
            for name, value in given.items()
            if name in self._properties and not (value is None and self._is_optional(name))
        }
        problems = [_problem(error) for error in self._validator.iter_errors(cleaned)]
        problems += self._unreachable_files(cleaned)
        if problems:
            raise InvalidInput(problems)
        return cleaned

    def file_fields(self) -> set[str]:
        """Names of inputs that hold a file, or a list of files."""
        return {name for name, schema in self._properties.items() if self._is_file(schema)}

    def _is_optional(self, name: str) -> bool:
        # Rust Cog rejects an explicit null even where it is the default, so such a null never reaches it.
        return self._properties[name].get("nullable", False) or name not in self._input.get("required", [])

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for candidate in schema.get("allOf", [schema]):
            if "$ref" in candidate:
                return self._document["components"]["schemas"][candidate["$ref"].rsplit("/", 1)[-1]]
        return schema

    def _coerce(self, schema: Mapping[str, Any], value: Any) -> Any:
        """Numeric strings and whole floats become numbers, as classic Cog had it."""
        kind = self._resolve(schema).get("type")
        if kind == "integer" and isinstance(value, float) and value.is_integer():
            return int(value)
        if kind in ("integer", "number") and isinstance(value, str) and len(value) < 64:
            try:
                return int(value) if kind == "integer" else float(value)
            except ValueError:
                return value
        return value

    def _is_file(self, schema: Mapping[str, Any]) -> bool:
        schema = self._resolve(schema)
        if schema.get("type") == "array":
            return self._is_file(schema.get("items", {}))
        return schema.get("format") == "uri" or any(self._is_file(option) for option in schema.get("anyOf", []))

    def _unreachable_files(self, cleaned: Mapping[str, Any]) -> list[InvalidField]:
        problems = []
        for name in self.file_fields() & cleaned.keys():
            values = cleaned[name] if isinstance(cleaned[name], list) else [cleaned[name]]
            if any(isinstance(value, str) and not value.startswith(_FILE_SCHEMES) for value in values):
                problems.append(InvalidField("format", f"input.{name}", "Must be an http(s) URL or a data: URI"))
        return problems


def _with_null(schema: Any) -> Any:
    """OpenAPI's `nullable` in JSON Schema's words."""
    if isinstance(schema, list):
        return [_with_null(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    translated = {key: _with_null(value) for key, value in schema.items()}
    if translated.pop("nullable", False) is True:
        return {"anyOf": [translated, {"type": "null"}]}
    return translated


def _problem(error: jsonschema_rs.ValidationError) -> InvalidField:
    keyword = error.kind.name
    path = ".".join(str(part) for part in error.instance_path)
    field = f"input.{path}" if path else "input"
    return InvalidField(_ERROR_TYPES.get(keyword, keyword), field, _describe(keyword, error, field))


def _describe(keyword: str, error: jsonschema_rs.ValidationError, field: str) -> str:
    match keyword:
        case "required":
            return f"{error.kind.as_dict()['property']} is required"
        case "minimum":
            return f"Must be greater than or equal to {error.kind.limit:g}"
        case "maximum":
            return f"Must be less than or equal to {error.kind.limit:g}"
        case "enum":
            return f"{field} must be one of the following: {', '.join(map(_quoted, error.kind.options))}"
        case _:
            return error.message[:500]


def _quoted(option: Any) -> str:
    return f'"{option}"' if isinstance(option, str) else str(option)
