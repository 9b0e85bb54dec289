"""A Version's input schema, compiled once: drop what it does not know, coerce, validate, name every failing field.

Knows Cog's OpenAPI 3.0 dialect (`nullable`, `allOf` enums, `format: uri` files); knows nothing of HTTP or rows. The
schema comes out of somebody's image, so nothing it refers to is fetched, and no value of an input is ever quoted.
"""

import binascii
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import jsonschema_rs

from core.errors import Invalid, InvalidField, InvalidInput
from core.input_problems import problems_of

# A longer data URI is believed: decoding it would hold up the event loop for many milliseconds.
_DECODED_CHARACTERS = 2**18

# An http(s) URL up to its path. Bounded, because `urlsplit` keeps what it has parsed.
_ADDRESS = re.compile(r"https?://(?:[^/?#]{0,300}@)?[^/?#@\s\x00-\x1f\x7f]{1,300}(?=[/?#]|\Z)")

# Digits of the largest number that JSON, as we write it, can carry; a longer string is no number anyone meant.
_NUMBER_CHARACTERS = 64
_SMALLEST_INTEGER, _LARGEST_INTEGER = -(2**63), 2**64 - 1

_PLAIN_TYPES = ("string", "integer", "number", "boolean")

# 20,000 wrong items of a list take the validator 0.3 s to tell.
_MANY_VALUES = 1000

# Stands for a value in the words of the validator, which would quote it otherwise: it may be a secret.
_MASK = "The value"


class InputSchema:
    """Compiled from the OpenAPI document of a Cog container; raises `Invalid` where that cannot be.

    Without a document, everything is accepted as it is.
    """

    def __init__(self, openapi_schema: Mapping[str, Any] | None) -> None:
        self._components: Mapping[str, Any] = (openapi_schema or {}).get("components", {})
        self._input = self._components.get("schemas", {}).get("Input")
        self._properties: Mapping[str, Any] = (self._input or {}).get("properties", {})
        self._validator = None if self._input is None else _compile(self._components)
        self._nulls = {name: None for name, schema in self._properties.items() if self._is_sent_as_null(schema)}

    def prepare(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The input as the container gets it. Raises `InvalidInput` naming every field that fails."""
        if self._validator is None:
            cleaned, problems = dict(given), []
        else:
            cleaned = self._nulls | {
                name: self._coerce(self._properties[name], value)
                for name, value in given.items()
                if name in self._properties and not (value is None and self._may_be_missing(name))
            }
            problems = self._problems(cleaned)
        for name, value in cleaned.items():
            problems += self._unreachable_files(self._properties.get(name, {}), value, f"input.{name}")
            if any("\x00" in text for text in _strings({name: value})):
                # Postgres keeps no such character, and no model needs it.
                problems.append(InvalidField("format", f"input.{name}", "Must not contain the character U+0000"))
        if problems:
            raise InvalidInput(problems)
        return cleaned

    def _problems(self, cleaned: Mapping[str, Any]) -> list[InvalidField]:
        """Of a very long input only the first: the validator makes all errors at once, and holds everything up."""
        if self._validator.is_valid(cleaned):
            return []
        if sum(len(value) for value in cleaned.values() if isinstance(value, list | dict)) <= _MANY_VALUES:
            return problems_of(self._validator.iter_errors(cleaned))
        try:
            self._validator.validate(cleaned)
        except jsonschema_rs.ValidationError as error:
            return problems_of([error])
        return []

    def secrets(self) -> list[str]:
        """Names of the inputs that nobody but the model may see."""
        return [name for name, schema in self._properties.items() if _is_secret(self._resolve(schema))]

    def _may_be_missing(self, name: str) -> bool:
        # Rust Cog rejects an explicit null even where it is the default, so such a null never reaches it.
        return name not in self._input.get("required", [])

    def _is_sent_as_null(self, schema: Mapping[str, Any]) -> bool:
        # Classic Cog may demand an `Optional` without a default although its schema does not, and always takes null.
        is_classic = "WebhookEvent" in self._components.get("schemas", {})
        return is_classic and schema.get("nullable") is True and "default" not in schema

    def _resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for candidate in schema.get("allOf", [schema]):
            if "$ref" in candidate:
                return self._components["schemas"].get(candidate["$ref"].rsplit("/", 1)[-1], {})
        return schema

    def _coerce(self, schema: Mapping[str, Any], value: Any) -> Any:
        """Numeric strings and whole floats become numbers, as classic Cog had it."""
        schema = self._resolve(schema)
        match schema.get("type"):
            case "integer" if isinstance(value, str | float):
                return _integer(value)
            case "number" if isinstance(value, str):
                return _read(float, value)
            case "array" if isinstance(value, list):
                items = schema.get("items", {})
                return [item if type(item) is int else self._coerce(items, item) for item in value]
        return value

    def _unreachable_files(self, schema: Mapping[str, Any], value: Any, field: str) -> Iterator[InvalidField]:
        """Every place that holds a file, however deep, and no URL."""
        schema = self._resolve(schema)
        if isinstance(value, str) and self._is_file(schema) and not _is_fetchable(value):
            yield InvalidField("format", field, "Must be an http(s) URL or a data: URI")
        for option in schema.get("anyOf", []):
            if not isinstance(value, str):
                yield from self._unreachable_files(option, value, field)
        if isinstance(value, list) and self._may_hold_files(items := schema.get("items", {})):
            for index, item in enumerate(value):
                yield from self._unreachable_files(items, item, f"{field}.{index}")
        if isinstance(value, dict):
            others = schema.get("additionalProperties")
            known = dict.fromkeys(value, others) if isinstance(others, Mapping) else {}
            for name, part in {**known, **schema.get("properties", {})}.items():
                yield from self._unreachable_files(part, value.get(name), f"{field}.{name}")

    def _may_hold_files(self, schema: Mapping[str, Any]) -> bool:
        """Not so for a list of numbers or texts, which may be long."""
        schema = self._resolve(schema)
        return schema.get("type") not in _PLAIN_TYPES or schema.get("format") == "uri"

    def _is_file(self, schema: Mapping[str, Any]) -> bool:
        """Whether a string can only mean a file here: of a union, no other member takes a string."""
        schema = self._resolve(schema)
        options = [self._resolve(option) for option in schema.get("anyOf", [])]
        texts = [option for option in options if option.get("type") == "string"]
        return schema.get("format") == "uri" or (bool(texts) and all(map(self._is_file, texts)))


def _compile(components: Mapping[str, Any]) -> jsonschema_rs.Validator:
    document = {"components": _in_json_schema(components), "$ref": "#/components/schemas/Input"}
    try:
        return jsonschema_rs.validator_for(document, mask=_MASK, offline=True)
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise Invalid(f"The input schema of this version cannot be used: {reason}") from error


def _in_json_schema(schema: Any) -> Any:
    """Cog's OpenAPI in JSON Schema's words. An input may itself be called `nullable` or `pattern`."""
    if isinstance(schema, list):
        return [_in_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("nullable") is True:
        rest = {key: value for key, value in schema.items() if key != "nullable"}
        return {"anyOf": [_in_json_schema(rest), {"type": "null"}]}
    # Beyond 64 bits the api reads a whole number as a float, which has lost some of its digits.
    bounds = {"minimum": _SMALLEST_INTEGER, "maximum": _LARGEST_INTEGER} if schema.get("type") == "integer" else {}
    return bounds | {key: _in_json_schema(value) for key, value in schema.items() if not _is_meaningless(key, value)}


def _is_meaningless(key: str, value: Any) -> bool:
    """Classic Cog writes empty unions for lists of files; and a pattern may be of a dialect that only Python knows."""
    if key == "pattern" and isinstance(value, str):
        try:
            jsonschema_rs.validator_for({"pattern": value})
        except ValueError:
            return True
    return key == "anyOf" and value == []


def _is_fetchable(value: str) -> bool:
    """Whether Cog can read a file there. Newer Cog passes what begins otherwise to the model, as a path on its disk."""
    return _is_data(value) if value.startswith("data:") else _has_address(value)


def _is_data(uri: str) -> bool:
    """As urllib reads it, which Cog uses."""
    header, comma, content = uri.partition(",")
    try:
        if header.endswith(";base64") and len(content) <= _DECODED_CHARACTERS:
            binascii.a2b_base64(unquote_to_bytes(content))
    except binascii.Error:
        return False
    return bool(comma)


def _has_address(url: str) -> bool:
    """Whether there is a host to ask, and a port if one is named."""
    address = _ADDRESS.match(url)
    if address is None:
        return False
    try:
        parts = urlsplit(address[0])
        return bool(parts.hostname) and parts.hostname[0] not in "*." and (parts.port is None or parts.port >= 0)
    except ValueError:  # `port` raises where it is no number
        return False


def _integer(value: str | float) -> Any:
    """The whole number that this is, else the value itself."""
    number = _read(int, value) if isinstance(value, str) else value
    if isinstance(number, str):
        number = _read(float, number)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    is_whole = isinstance(number, int) and _SMALLEST_INTEGER <= number <= _LARGEST_INTEGER
    return number if is_whole else value


def _read(kind: type[int] | type[float], text: str) -> Any:
    """The number that is written there, else the text itself."""
    if len(text) > _NUMBER_CHARACTERS:
        return text
    try:
        number = kind(text)
    except ValueError:
        return text
    # JSON has no words for infinity and NaN.
    return number if math.isfinite(number) else text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            if not isinstance(item, int | float):
                yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)


def _is_secret(schema: Mapping[str, Any]) -> bool:
    items = schema.get("items")
    return bool(schema.get("x-cog-secret")) or (isinstance(items, Mapping) and _is_secret(items))
