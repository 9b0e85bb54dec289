"""URLs that clients give us to be shown to others: http(s) only, so that no page gets a script for a link."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
    except ValueError:  # Of a host in brackets that is no address.
        is_one = False
    if not is_one:
        raise PydanticCustomError("format", "Must be an http(s) URL")
    return url


HttpUrl = Annotated[
    str, Field(max_length=4000, json_schema_extra={"format": "uri", "pattern": "^https?://"}), AfterValidator(_http_url)
]
