"""Writes the OpenAPI document of a Cog model from inside the model's own environment: a script, not to be imported.

    python -I schema_inspector.py result.json predict.py:Predictor [train.py:train]     (cwd: the project)

Knows only the standard library and the installed `cog`. Newer Cog has no such generator in Python, so the rules here
are those of its build command; classic Cog (before 0.17) has one, which is called. `result.json` gets `openapi_schema`,
`concurrency` and `cog_version`, or else `error`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import functools
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import traceback
import types
import typing
from importlib.metadata import version
from typing import Any

REF = "#/components/schemas/"
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
UNIONS = {typing.Union, getattr(types, "UnionType", typing.Union)}
ITERATORS = {collections.abc.Iterator, collections.abc.AsyncIterator}
MISSING = object()


class Unsupported(Exception):
    """The author wrote a type that Cog has no schema for; the message names the place."""


# Types


def strip(annotation: Any) -> Any:
    """The type inside `Annotated`; what is marked `cog.Opaque` becomes Any, or a list of Any."""
    if typing.get_origin(annotation) is not typing.Annotated:
        return annotation
    inner, *marks = typing.get_args(annotation)
    if not any(type(mark).__name__ == "_OpaqueMarker" for mark in marks):
        return strip(inner)
    inner, nullable = split_optional(inner)
    opaque = typing.List[Any] if inner is list or typing.get_origin(inner) is list else Any  # noqa: UP006
    return typing.Optional[opaque] if nullable else opaque  # noqa: UP045


def split_optional(annotation: Any) -> tuple[Any, bool]:
    """`X | None` as (X, True); a union of more than one type keeps being a union."""
    annotation = strip(annotation)
    if typing.get_origin(annotation) not in UNIONS:
        return annotation, False
    members = typing.get_args(annotation)
    rest = tuple(member for member in members if member is not type(None))
    return strip(typing.Union[rest]), len(rest) < len(members)  # noqa: UP007


def schema_of(annotation: Any, place: str, seen: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The JSON Schema of a type, as Cog writes it. `nullable` marks X | None, OpenAPI 3.0 having no null type."""
    inner, nullable = split_optional(annotation)
    schema = plain_schema(inner, place, seen)
    return {**schema, "nullable": True} if nullable else schema


def plain_schema(annotation: Any, place: str, seen: tuple[Any, ...]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in SCALARS:
        return {"type": SCALARS[annotation]}
    if annotation is Any or annotation is dict:
        return {"type": "object"}
    if annotation is list or origin is list:
        return {"type": "array", "items": schema_of(arguments[0], place, seen) if arguments else {"type": "object"}}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1], place, seen)}
    if origin in UNIONS:
        return {"anyOf": [schema_of(member, place, seen) for member in arguments]}
    if origin is typing.Literal:
        return {**plain_schema(type(arguments[0]), place, seen), "enum": list(arguments)}
    if inspect.isclass(annotation):
        return class_schema(annotation, place, seen)
    raise Unsupported(f"{place} has the type {annotation}, which Cog does not know.")


def class_schema(cls: type, place: str, seen: tuple[Any, ...]) -> dict[str, Any]:
    import cog

    if issubclass(cls, cog.Secret):
        return {"type": "string", "format": "password", "writeOnly": True, "x-cog-secret": True}
    if issubclass(cls, (os.PathLike, cog.File)):
        return {"type": "string", "format": "uri"}
    fields = object_fields(cls)
    if fields is None:
        raise Unsupported(f"{place} has the type {cls.__name__}, which Cog does not know.")
    if cls in seen:
        return {"type": "object"}
    hints = typing.get_type_hints(cls, include_extras=True)
    properties, required = {}, []
    for name, has_default in fields.items():
        annotation = hints[name]
        properties[name] = {"title": title(name), **schema_of(annotation, f"{place}.{name}", (*seen, cls))}
        if not has_default and not split_optional(annotation)[1]:
            required.append(name)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def object_fields(cls: type) -> dict[str, bool] | None:
    """Field name to whether it may be left out, for a cog or pydantic BaseModel, a dataclass or a TypedDict."""
    if dataclasses.is_dataclass(cls):
        return {
            field.name: field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
            for field in dataclasses.fields(cls)
        }
    if hasattr(cls, "model_fields"):
        return {name: not field.is_required() for name, field in cls.model_fields.items()}
    if typing.is_typeddict(cls):
        return {name: name not in cls.__required_keys__ for name in typing.get_type_hints(cls)}
    return None


def output_schema(annotation: Any, name: str) -> dict[str, Any]:
    annotation = strip(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    kind = getattr(origin, "__name__", "")
    if origin in ITERATORS or kind in ("ConcatenateIterator", "AsyncConcatenateIterator"):
        schema = {"type": "array", "items": schema_of(arguments[0], "the output"), "x-cog-array-type": "iterator"}
        if origin not in ITERATORS:
            schema["x-cog-array-display"] = "concatenate"
    else:
        if split_optional(annotation)[1]:
            raise Unsupported("The output must not be Optional; return an empty value instead.")
        schema = schema_of(annotation, "the output")
    return {"title": name, **schema}


# Inputs


def title(name: str) -> str:
    return name.replace("_", " ").title()


def input_schema(function: Any, hints: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The object of all inputs, and the components that hold the choices."""
    properties, required, choices = {}, [], {}
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    for order, parameter in enumerate(parameters):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Unsupported(f"{function.__name__}() takes *{parameter.name}; name every input.")
        if parameter.name not in hints:
            raise Unsupported(f"The input {parameter.name} has no type; add one, as in `{parameter.name}: str`.")
        schema, choice, is_required = one_input(parameter, hints[parameter.name], order)
        properties[parameter.name] = schema
        if choice:
            choices[parameter.name] = choice
        if is_required:
            required.append(parameter.name)
    whole = {"title": name, "type": "object", "properties": properties}
    return ({**whole, "required": required} if required else whole), choices


def one_input(parameter: inspect.Parameter, annotation: Any, order: int) -> tuple[dict[str, Any], Any, bool]:
    """Its property, its choices' component if it has choices, and whether a caller must give it."""
    name, info = parameter.name, parameter.default
    has_info = type(info).__name__ == "FieldInfo"
    default = MISSING if info is parameter.empty else info
    if has_info:
        default = info.default if info.default is not None or getattr(info, "default_given", False) else MISSING
    inner, nullable = split_optional(annotation)
    schema = {"x-order": order}
    base = input_type(annotation, name)
    # None for a Secret means "no credential"; for other plain types it is no default at all, as in Cog's own build.
    if default is None and base.get("x-cog-secret"):
        nullable = True
    if default is None and not nullable:
        default = MISSING
    choice = None
    if has_info and info.choices:
        values = [plain(value) for value in info.choices]
        choice = {"title": name, "description": "An enumeration.", "enum": values, "type": base.get("type", "string")}
        schema["allOf"] = [{"$ref": REF + name}]
    else:
        schema.update({"title": title(name), **base})
    if default is not MISSING:
        schema["default"] = plain(default)
    if nullable:
        schema["nullable"] = True
    if has_info:
        schema.update(constraints(info))
    return schema, choice, default is MISSING and not nullable


def input_type(annotation: Any, name: str) -> dict[str, Any]:
    """Objects are opaque as inputs: Cog checks no more than that they are objects."""
    schema = schema_of(annotation, f"The input {name}")
    for each in (schema, schema.get("items", {}), *schema.get("anyOf", [])):
        if each.get("type") == "object":
            for detail in ("properties", "required", "additionalProperties"):
                each.pop(detail, None)
    return schema


def constraints(info: Any) -> dict[str, Any]:
    named = {
        "description": info.description,
        "minimum": info.ge,
        "maximum": info.le,
        "minLength": info.min_length,
        "maxLength": info.max_length,
        "pattern": info.regex,
        "deprecated": getattr(info, "deprecated", None) or None,
        "x-cog-accept": getattr(info, "accept", None),
    }
    return {key: value for key, value in named.items() if value is not None}


def plain(value: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    return value


# The document


def document(predict: Any, train: Any) -> dict[str, Any]:
    components: dict[str, Any] = {}
    paths: dict[str, Any] = {"/": {"get": operation("Root")}, "/health-check": {"get": operation("Healthcheck")}}
    add_endpoint(components, paths, predict, "Prediction", "")
    # The server streams any model once its schema says so, and then one ordered channel carries logs and output.
    paths["/predictions"]["post"]["x-cog-streaming"] = True
    if train is not None:
        add_endpoint(components, paths, train, "Training", "Training")
    components.update(SHARED_COMPONENTS)
    about = {"openapi": "3.0.2", "info": {"title": "Cog", "version": "0.1.0"}}
    return {**about, "paths": paths, "components": {"schemas": components}}


def add_endpoint(components: dict[str, Any], paths: dict[str, Any], function: Any, noun: str, prefix: str) -> None:
    hints = typing.get_type_hints(function, include_extras=True)
    if "return" not in hints or hints["return"] is type(None):
        raise Unsupported(f"{function.__name__}() has no return type; add one, as in `-> str`.")
    inputs, choices = input_schema(function, hints, f"{prefix}Input")
    components[f"{prefix}Input"] = inputs
    components[f"{prefix}Output"] = output_schema(hints["return"], f"{prefix}Output")
    components.update(choices)
    given = {"id": text("id"), "input": {"$ref": f"{REF}{prefix}Input"}}
    times = {name: text(name, format="date-time") for name in ("created_at", "started_at", "completed_at")}
    answered = {
        **given,
        "output": {"$ref": f"{REF}{prefix}Output"},
        **{name: text(name) for name in ("version", "status", "error", "logs")},
        **times,
        "metrics": {"title": "Metrics", "type": "object"},
    }
    for name, properties in ((f"{noun}Request", given), (f"{noun}Response", answered)):
        components[name] = {"title": name, "type": "object", "properties": properties}
    plural, key = f"/{noun.lower()}s", f"{noun.lower()}_id"
    verb = {"Prediction": "Predict", "Training": "Train"}[noun]
    content = {"application/json": {"schema": {"$ref": f"{REF}{noun}Request"}}}
    paths[plural] = {"post": {**operation(verb, f"{noun}Response"), "requestBody": {"content": content}}}
    parameter = {"name": key, "in": "path", "required": True, "schema": text(key)}
    paths[f"{plural}/{{{key}}}/cancel"] = {"post": {**operation("Cancel"), "parameters": [parameter]}}


def operation(summary: str, response: str = "") -> dict[str, Any]:
    def answer(description: str, name: str) -> dict[str, Any]:
        schema = {"$ref": REF + name} if name else {}
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    responses = {"200": answer("Successful Response", response)}
    if response:
        responses["422"] = answer("Validation Error", "HTTPValidationError")
    return {"summary": summary, "responses": responses}


def text(name: str, **more: str) -> dict[str, Any]:
    return {"title": title(name), "type": "string", **more}


LOCATIONS = [{"type": "string"}, {"type": "integer"}]
SHARED_COMPONENTS = {
    "Status": {
        "title": "Status",
        "description": "An enumeration.",
        "enum": ["starting", "processing", "succeeded", "canceled", "failed"],
        "type": "string",
    },
    "HTTPValidationError": {
        "title": "HTTPValidationError",
        "type": "object",
        "properties": {"detail": {"title": "Detail", "type": "array", "items": {"$ref": f"{REF}ValidationError"}}},
    },
    "ValidationError": {
        "title": "ValidationError",
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {"title": "Location", "type": "array", "items": {"anyOf": LOCATIONS}},
            "msg": {"title": "Message", "type": "string"},
            "type": {"title": "Error Type", "type": "string"},
        },
    },
}


# The model


def remember_given_defaults() -> None:
    """`Input()` and `Input(default=None)` give the same object; only the call tells them apart."""
    import cog

    original = cog.Input

    def remembering(*args: Any, **kwargs: Any) -> Any:
        info = original(*args, **kwargs)
        object.__setattr__(info, "default_given", bool(args) or "default" in kwargs)
        return info

    cog.Input = remembering


def load(reference: str, names: tuple[str, ...]) -> Any:
    """The function that `predict.py:Predictor` stands for: itself, or the author's method among `names`."""
    file, name = reference.split(":", 1)
    target = getattr(load_module(file), name, None)
    if target is None:
        raise Unsupported(f"{file} defines no {name}.")
    if not inspect.isclass(target):
        return target
    written = [each for each in names if owner_module(target, each).split(".")[0] != "cog"]
    if len(written) != 1:
        wanted = " or ".join(f"{each}()" for each in names)
        raise Unsupported(f"{name} in {file} must define {wanted}{', not both' if written else ''}.")
    return getattr(target, written[0])


@functools.cache
def load_module(file: str) -> types.ModuleType:
    """As Cog's server loads it: from its path, under its bare name."""
    name = os.path.basename(file)[: -len(".py")]
    spec = importlib.util.spec_from_file_location(name, file)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def owner_module(cls: type, name: str) -> str:
    return next((base.__module__ for base in cls.__mro__ if name in base.__dict__), "cog")


def inspect_new(reference: str, train_reference: str | None) -> dict[str, Any]:
    remember_given_defaults()
    predict = load(reference, ("run", "predict"))
    train = load(train_reference, ("train",)) if train_reference else None
    slots = getattr(predict, "__cog_concurrent_max__", 1)
    return {"openapi_schema": document(predict, train), "concurrency": slots}


def inspect_classic() -> dict[str, Any]:
    """Classic Cog prints the very document that its server serves."""
    command = [sys.executable, "-m", "cog.command.openapi_schema"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if finished.returncode != 0:
        raise Unsupported("Cog could not make a schema of this model.")
    return {"openapi_schema": json.loads(finished.stdout), "concurrency": 1}


def main(result_path: str, reference: str, train_reference: str | None = None) -> int:
    # `-I` keeps this script's own folder out of the way; the project's is what Cog's server imports from.
    sys.path.insert(0, os.getcwd())
    try:
        found = inspect_new(reference, train_reference) if importlib.util.find_spec("coglet") else inspect_classic()
        written = json.dumps({**found, "cog_version": version("cog")})
    except Unsupported as error:
        written = json.dumps({"error": str(error)})
    except Exception as error:
        traceback.print_exc()
        written = json.dumps({"error": f"{reference} could not be loaded: {type(error).__name__}: {error}"})
    with open(result_path, "w", encoding="utf-8") as stream:
        stream.write(written)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
