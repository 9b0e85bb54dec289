"""Which errors an operation may answer with, from what it is; each is one shared response of the OpenAPI document."""

from collections.abc import Iterator
from typing import Any

from api.access import Access, Bucket
from api.schemas.problem import Problem
from core.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    InvalidField,
    InvalidInput,
    InvalidVersion,
    MillraceError,
    NotFound,
    PaymentRequired,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
    ValidationFailed,
)
from core.people.tokens import Scope

MEDIA_TYPE = "application/problem+json"
_SCHEMA = {"$ref": f"#/components/schemas/{Problem.__name__}"}
#: Parameters that are refused with 400, not 422.
_READ_BY_HAND = {"cursor", "query", "account"}
_CHANGES = ("post", "put", "patch", "delete")

_KINDS: tuple[type[MillraceError], ...] = (
    BadRequest,
    Unauthenticated,
    PaymentRequired,
    Forbidden,
    NotFound,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    MillraceError,
    Unavailable,
)
_EXAMPLES: tuple[MillraceError, ...] = (
    BadRequest("The body is not valid JSON."),
    ValidationFailed("hardware", "There is no hardware with the SKU gpu-x: use one of cpu."),
    Unauthenticated(),
    PaymentRequired(),
    Forbidden("This token lacks the scope `write`: it has read, run."),
    NotFound(),
    Conflict("The Idempotency-Key 7f3a was used with another request; use a new key for a new request."),
    TooLarge("The body is larger than 20971520 bytes, the most this server accepts."),
    UnsupportedMediaType(),
    InvalidInput([InvalidField("number_lte", "input.count", "Must be less than or equal to 10")]),
    InvalidVersion(),
    TooManyRequests(Bucket.CALLS, 7),
    MillraceError("Something went wrong on our side; the server's log has the details."),
    Unavailable(),
)
_HEADERS = {
    401: {"WWW-Authenticate": "Always `Bearer`."},
    409: {"x-should-retry": "`false`: the same request will fail again, whatever a client thinks of conflicts."},
    429: {"Retry-After": "Whole seconds to wait."},
    503: {"Retry-After": "Whole seconds to wait."},
}


def responses() -> dict[str, Any]:
    """All of them, for the document's components."""
    return {kind.code: _response(kind) for kind in _KINDS}


def schemas() -> dict[str, Any]:
    schema = Problem.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), Problem.__name__: schema}


def of(access: Access, method: str, operation: dict[str, Any], is_visited: bool) -> dict[str, Any]:
    """The errors of one operation, by status. `is_visited`: its token may be left out, but not be wrong."""
    found = sorted(_possible(access, method, operation, is_visited), key=lambda kind: kind.status)
    return {str(kind.status): {"$ref": f"#/components/responses/{kind.code}"} for kind in found}


def _possible(
    access: Access, method: str, operation: dict[str, Any], is_visited: bool
) -> Iterator[type[MillraceError]]:
    has_token, has_body = access.scope is not None, "requestBody" in operation
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    yield from (MillraceError, Unavailable)
    if has_body or access.creates or names & _READ_BY_HAND:
        yield BadRequest
    if has_token or is_visited:
        yield Unauthenticated
    if has_token:
        yield from (Forbidden, TooManyRequests)
    if access.bucket is Bucket.CREATES:
        yield PaymentRequired
    if "path" in places:
        yield NotFound
    if access.creates or (method in _CHANGES and access.scope in (Scope.WRITE, Scope.ADMIN)):
        yield Conflict
    if has_body:
        yield from (TooLarge, UnsupportedMediaType)
    if has_body or places:
        yield Invalid


def _response(kind: type[MillraceError]) -> dict[str, Any]:
    examples = {
        error.code: {"summary": error.title, "value": _document(error)}
        for error in _EXAMPLES
        if error.status == kind.status
    }
    headers = {
        name: {"description": text, "schema": {"type": "string"}}
        for name, text in _HEADERS.get(kind.status, {}).items()
    }
    return {
        "description": " ".join((kind.__doc__ or kind.title).split()),
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": _SCHEMA, "examples": examples}},
    }


def _document(error: MillraceError) -> dict[str, Any]:
    return {"title": error.title, "detail": error.detail, "status": error.status, **error.members}
