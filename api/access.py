"""Who may call what: each route says it, above its function. One that says nothing does not start."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from core.people.tokens import Scope

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Bucket(StrEnum):
    """What a call counts as, for the limit of its rate."""

    CREATES = "creating predictions"
    CALLS = "this API"


@dataclass(frozen=True, slots=True)
class Access:
    """No `scope`: anyone, without a token. `creates`: an Idempotency-Key is honoured."""

    scope: Scope | None
    bucket: Bucket = Bucket.CALLS
    creates: bool = False
    keeps_answer: bool = True
    """Off where the answer holds a secret: then the same key again is told that it was used."""


def needs(
    scope: Scope, *, bucket: Bucket = Bucket.CALLS, creates: bool = False, keeps_answer: bool = True
) -> Callable[[Endpoint], Endpoint]:
    return _declare(Access(scope, bucket, creates, keeps_answer))


def anyone(endpoint: Endpoint) -> Endpoint:
    """No token is asked for: what is shown is public, or its URL is the permission."""
    return _declare(Access(None))(endpoint)


def access_of(endpoint: Callable[..., Any]) -> Access:
    """Raises `LookupError`."""
    try:
        return endpoint.__access__  # type: ignore[attr-defined]
    except AttributeError:
        name = endpoint.__qualname__
        raise LookupError(f"{name} does not say who may call it: put @needs or @anyone on it") from None


def _declare(access: Access) -> Callable[[Endpoint], Endpoint]:
    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__access__ = access  # type: ignore[attr-defined]
        return endpoint

    return declare
