"""Who may open a page: each route says it, above its function. One that says nothing does not start."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class Audience(StrEnum):
    ANYONE = "anyone"
    #: Who is logged in.
    ACCOUNTS = "accounts"
    #: Who is logged in to the account of an admin; to others the page is not there.
    ADMINS = "admins"


def page(*, admin: bool = False, anyone: bool = False) -> Callable[[Endpoint], Endpoint]:
    """`@page()` for who is logged in, `@page(admin=True)`, `@page(anyone=True)`; below the router's decorator."""
    audience = Audience.ADMINS if admin else Audience.ANYONE if anyone else Audience.ACCOUNTS

    def declare(endpoint: Endpoint) -> Endpoint:
        endpoint.__audience__ = audience  # type: ignore[attr-defined]
        return endpoint

    return declare


def audience_of(endpoint: Callable[..., Any]) -> Audience:
    """Raises `LookupError`."""
    try:
        return endpoint.__audience__  # type: ignore[attr-defined]
    except AttributeError:
        name = endpoint.__qualname__
        raise LookupError(f"{name} does not say who may open it: put @page() on it") from None
