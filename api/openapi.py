"""Our OpenAPI document: what each route says of itself, and what is true of all of them, added in this one place.

Paths and names of operations are those of the original's document. Aliases of paths are not in it.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, get_args

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from api import openapi_errors
from api.access import Access, access_of
from api.dependencies import Visitor
from core.settings import Settings

_PREFIX = "/v1"
_SCHEME = "bearerAuth"
_VISITOR = get_args(Visitor)[1].dependency
#: What the framework would answer, and we never do.
_DEFAULT_ERRORS = ("HTTPValidationError", "ValidationError")

_ABOUT = """\
Run models over HTTP: the API of Replicate, served by your own machines. Official clients work as they are; give them
the base URL of this server, and a token of it.

**Tokens** are sent as `Authorization: Bearer <token>`. Each has scopes, which include nothing of each other: `read`
sees what its account may see; `run` makes and cancels predictions and trainings, and uploads files; `write` changes
models, versions and deployments, and sends webhooks again; `billing` sees what was used and what is owed; `admin`
manages tokens, keys and spend limits. Every operation names the scope it needs.

**Errors** are `application/problem+json`, always of the one shape `Problem`. What you may not see is not found.

**Lists** come in pages, newest first. Follow `next` as it is until it is null.

**Limits**: every answer to a token tells in `ratelimit-remaining` how many calls are left, and in `ratelimit-reset` in
how many seconds all are back. Whoever is refused is told in `Retry-After` how long to wait.

**Trying again**: send an `Idempotency-Key` of your own with what creates something. The same request with the same key
gets the same answer, and creates nothing twice.
"""

_TAGS = {
    "predictions": "One run of a model on one input.",
    "models": "What can be run, and its versions, each of them immutable.",
    "deployments": "A model with an address, hardware and a number of instances of its own.",
    "trainings": "Runs that make a new version of a model.",
    "files": "What you upload for predictions to read, and what models return.",
    "streams": "The output of a prediction while it is made, as server-sent events.",
    "collections": "Models that belong together, chosen by the administrator of this server.",
    "search": "Find models by what they are about.",
    "hardware": "The kinds of machine that models run on.",
    "webhooks": "What this server has sent to yours, and the key it signs with.",
    "tokens": "Who may speak for an account, and what they may do.",
    "audit": "Who did what, from where, and what it changed.",
    "account": "Who is calling, and what was used.",
    "usage": "What was used and charged: sums, records, and tables for accountants and cost tools.",
    "prices": "What a second of a hardware and the outputs of a model cost.",
    "billing": "The wallet of an account: what it has and owes, how it is paid, and limits to it.",
    "fleet": "The machines of the server and the containers on them, for its admins.",
}

#: Verbs that are about more than one thing.
_OF_MANY = ("list", "search", "recover")
_OUTCOMES = {200: "As asked.", 201: "It was created.", 202: "Accepted: it goes on by itself.", 204: "It is done."}
_STILL_RUNNING = "It was created, and had not ended when the wait was over: its status is `starting`."


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


_HEADERS = {
    "ratelimit-remaining": _header("Calls left now; absent where there is no limit.", "integer"),
    "ratelimit-reset": _header("Seconds until none of them counts any more.", "integer"),
    "Idempotent-Replayed": _header("`true`: this was answered before, and nothing was done now."),
    "Preference-Applied": _header("`wait`: the answer was held."),
    "Millrace-Cache": _header("`hit`: this is the result of an equal, earlier prediction."),
}
_LIMIT_HEADERS = ("ratelimit-remaining", "ratelimit-reset")

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A new one for each thing to create, the same one for each try.",
    "schema": {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
}


def document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        summary="Run machine-learning models on machines of your own.",
        description=_ABOUT,
        routes=app.routes,
        servers=[{"url": f"{settings.url}{_PREFIX}"}],
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    for route, method in _operations(app):
        _complete(found["paths"][route.path_format][method], method, route)
    for plain in _DEFAULT_ERRORS:
        found["components"]["schemas"].pop(plain, None)
    found["components"]["schemas"].update(openapi_errors.schemas())
    found["components"]["responses"] = openapi_errors.responses()
    found["components"]["headers"] = _HEADERS
    found["components"]["securitySchemes"] = {
        _SCHEME: {"type": "http", "scheme": "bearer", "description": "A token of this server."}
    }
    found["security"] = [{_SCHEME: []}]
    found["paths"] = {path.removeprefix(_PREFIX): item for path, item in found["paths"].items()}
    _simplify(found["paths"])
    _simplify(found["components"]["schemas"])
    return found


def _operations(app: FastAPI) -> Iterator[tuple[RouteContext, str]]:
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute) and route.include_in_schema:
            yield from ((route, method.lower()) for method in route.methods)


def _complete(operation: dict[str, Any], method: str, route: RouteContext) -> None:
    access = access_of(route.endpoint)
    is_visited = _depends_on(route.dependant, _VISITOR)
    operation["summary"] = route.summary or _summary(operation["operationId"])
    operation["security"] = _security(access, is_visited)
    if access.scope is not None:
        operation["description"] = f"{operation.get('description', '')}\n\nNeeds the scope `{access.scope}`.".strip()
    if access.creates:
        operation.setdefault("parameters", []).append(deepcopy(_IDEMPOTENCY_KEY))
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter)
    _complete_successes(operation, access)
    operation["responses"] |= openapi_errors.of(access, method, operation, is_visited)


def _summary(operation_id: str) -> str:
    """`models.versions.list`: List model versions."""
    *nouns, verb = operation_id.split(".")
    singular = [re.sub("s$", "", re.sub("ies$", "y", noun)) for noun in nouns]
    things = [*singular[:-1], *nouns[-1:]] if verb in _OF_MANY else singular
    return " ".join([verb.capitalize(), *things])


def _security(access: Access, is_visited: bool) -> list[dict[str, list[str]]]:
    if access.scope is not None:
        return [{_SCHEME: [access.scope.value]}]
    return [{}, {_SCHEME: []}] if is_visited else []


def _complete_parameter(parameter: dict[str, Any]) -> None:
    """In a URL or a header nothing is null: it is left out."""
    schema = parameter["schema"]
    schema.pop("description", None)
    if parameter["in"] == "header":
        parameter["name"] = parameter["name"].title()
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    schema.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def _complete_successes(operation: dict[str, Any], access: Access) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    headers = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] == "header"}
    if "Prefer" in headers:
        responses["202"] = {**responses["201"], "description": _STILL_RUNNING}
    for status, response in responses.items():
        if response["description"] == "Successful Response":
            response["description"] = _OUTCOMES[int(status)]
        named = [
            *(_LIMIT_HEADERS if access.scope is not None else ()),
            *(["Idempotent-Replayed"] if access.creates else ()),
            *(["Preference-Applied"] if "Prefer" in headers else ()),
            *(["Millrace-Cache"] if "Millrace-Cache" in headers and status == "201" else ()),
        ]
        if named:
            response["headers"] = {
                **response.get("headers", {}),
                **{name: {"$ref": f"#/components/headers/{name}"} for name in named},
            }


def _depends_on(dependant: Dependant, call: Callable[..., Any]) -> bool:
    return any(inner.call is call or _depends_on(inner, call) for inner in dependant.dependencies)


def _simplify(node: Any) -> None:
    """Drops titles that only repeat the name of a field in capitals, and says `this or null` in the short way."""
    children = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    for child in children:
        _simplify(child)
    if isinstance(node, dict):
        if "properties" not in node and isinstance(node.get("title"), str):
            del node["title"]
        match node.get("anyOf"):
            case [{"type": str(kind), **rest}, {"type": "null"}] if "enum" not in rest and "const" not in rest:
                del node["anyOf"]
                node |= {"type": [kind, "null"], **rest, **node}
