"""What may be written down for good: values as plain JSON that reads back the same, without secrets. Pure.

Whoever writes down gives no secrets in the first place; this is the second lock.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from core.clock import rfc3339
from core.money.pricing import dollars

_HIDDEN = "**********"
_SECRET_KEY = re.compile(r"(secret|password|token|key|hash|cookie|authorization|signature)$", re.IGNORECASE)
#: How tokens, keys that sign, and keys of payment providers begin: what follows is left out.
_SECRETS = re.compile(r"\b(mr_|whsec_|(?:sk|rk)_(?:live|test)_)[A-Za-z0-9+/=_-]{16,}")
_URL = re.compile(r"https?://", re.IGNORECASE)
#: A README is named by its hash: what it said is not the log's to keep.
_MOST_CHARACTERS = 1000
#: Other JSON readers keep no more digits.
_LARGEST = 2**63 - 1


def redacted(value: Any, key: str = "") -> Any:
    """Next to each amount `x_nanos` stands `x_dollars`; numbers that JSON readers would change are strings."""
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_KEY.search(key):
        return _HIDDEN
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [redacted(item, key) for item in items]
    if isinstance(value, int):
        return int(value) if abs(value) <= _LARGEST else str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    return redacted_text(str(value), key)


def _object(value: Mapping[str, Any]) -> dict[str, Any]:
    shown = {}
    for key, item in value.items():
        shown[key] = redacted(item, key)
        if key.endswith("_nanos") and isinstance(item, int):
            shown[key.removesuffix("_nanos") + "_dollars"] = dollars(item)
    return shown


def _number(value: float) -> int | float | str:
    """Postgres keeps 1e16 as 10000000000000000, so that is what is given to it."""
    if not math.isfinite(value):
        return str(value)
    return redacted(int(value)) if value.is_integer() else value


def redacted_text(text: str, key: str = "") -> str:
    """A URL keeps no password and no query, and one that webhooks go to no path: any of these may be its secret."""
    if _URL.match(text):
        text = _url(text, keeps_path="webhook" not in key)
    text = _SECRETS.sub(r"\1…", text)
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[:_MOST_CHARACTERS]}… ({len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()})"


def _url(text: str, keeps_path: bool) -> str:
    try:
        url = urlsplit(text)
        place = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
    except ValueError:
        return _HIDDEN
    path = url.path if keeps_path else ("/…" if url.path.strip("/") else "")
    return place + path + ("?…" if url.query else "")
