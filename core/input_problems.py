"""A validator's errors as the fields and words Replicate reports them with. Pure; never quotes a value of an input."""

from collections.abc import Iterable
from typing import Any

from jsonschema_rs import ValidationError

from core.errors import InvalidField

#: JSON Schema's keyword: the type by which Replicate reports it, and what it says.
_WORDS = {
    "required": ("required", "{property} is required"),
    "type": ("invalid_type", "Invalid type. Expected: {types}, given: {given}"),
    "enum": ("enum", "{field} must be one of the following: {options}"),
    "minimum": ("number_gte", "Must be greater than or equal to {limit}"),
    "maximum": ("number_lte", "Must be less than or equal to {limit}"),
    "exclusiveMinimum": ("number_gt", "Must be greater than {limit}"),
    "exclusiveMaximum": ("number_lt", "Must be less than {limit}"),
    "multipleOf": ("multiple_of", "Must be a multiple of {multiple_of}"),
    "minLength": ("string_gte", "String length must be greater than or equal to {limit}"),
    "maxLength": ("string_lte", "String length must be less than or equal to {limit}"),
    "pattern": ("pattern", "Does not match pattern '{pattern}'"),
    "minItems": ("array_min_items", "Array must have at least {limit} items"),
    "maxItems": ("array_max_items", "Array must have at most {limit} items"),
    "additionalProperties": ("additional_property_not_allowed", "Additional property {unexpected} is not allowed"),
    "anyOf": ("number_any_of", "{branches}"),
}
_MAX_DESCRIPTION = 500


def problems_of(errors: Iterable[ValidationError]) -> list[InvalidField]:
    return [_problem(found) for error in errors for found in _without_null(error)]


def _without_null(error: ValidationError) -> list[ValidationError]:
    """For `X or null`, which is how `nullable` is put, what is wrong with X."""
    if error.kind.name == "anyOf" and len(error.kind.context) == 2:
        branch, null = error.kind.context
        if [found.kind.as_dict() for found in null] == [{"types": ["null"]}]:
            return [inner for found in branch for inner in _without_null(found)]
    return [error]


def _problem(error: ValidationError) -> InvalidField:
    field = ".".join(["input", *map(str, error.instance_path)])
    type, template = _WORDS.get(error.kind.name, (error.kind.name, error.message))
    if error.kind.name in _WORDS:
        template = template.format(field=field, given=_type_of(error.instance), **_facts(error))
    return InvalidField(type, field, template[:_MAX_DESCRIPTION])


def _facts(error: ValidationError) -> dict[str, str]:
    if error.kind.name == "anyOf":
        branches = ["; ".join(_problem(found).description for found in branch) for branch in error.kind.context]
        return {"branches": " or: ".join(branches)}
    facts = error.kind.as_dict()
    if "options" in facts:
        facts["options"] = [f'"{option}"' if isinstance(option, str) else option for option in facts["options"]]
    return {name: _text(fact) for name, fact in facts.items()}


def _text(fact: Any) -> str:
    if isinstance(fact, list):
        return ", ".join(map(_text, fact))
    return str(int(fact)) if isinstance(fact, float) and fact.is_integer() else str(fact)


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"
