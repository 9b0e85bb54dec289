"""Reads JSON and refuses what is ambiguous or costs far more than its bytes: repeated keys, depth, masses of values.

Knows nothing of HTTP but the status of a refusal.
"""

import json
import re
from collections import Counter
from typing import Any

import orjson
from starlette.exceptions import HTTPException

#: orjson reads 1024 levels and writes 254: what is read must still be written with a page of others around it.
_DEEPEST = 200
#: 130 embeddings of 768 numbers. A value may cost a hundred times its bytes: so many, some 50 ms and 25 MB.
_MOST_VALUES = 100_000
#: Of a body without escaped quotes.
_STRING = re.compile(rb'"[^"]*+"')
#: Their colons belong to no key, which would end in a quote, and none is in two of them.
_URLS = (b"http://", b"https://", b"data:")
_SHOWN_CHARACTERS = 100


def read_json(body: bytes, what: str = "The body") -> Any:
    """Raises `HTTPException`; on NaN and lone surrogates as well."""
    colons = body.count(b":")
    # Before all but the first of many values there is one of these, and some of them stand in strings.
    if colons + body.count(b",") + body.count(b"[") > _MOST_VALUES:
        _refuse_many_values(body, what)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        # Not passed on: it holds the whole text, and FastAPI would hold it until the garbage collector comes.
        raise HTTPException(400, f"{what} is not valid JSON.") from None
    # Each key has its colon; the others are in strings, and most of those in URLs.
    if count_keys(document, what) != colons - sum(map(body.count, _URLS)):
        _refuse_repeated_keys(body)
    return document


def count_keys(document: Any, what: str) -> int:
    """Raises `HTTPException` where it is nested too deeply."""
    keys = 0
    level = [document] if isinstance(document, (dict, list)) else []
    for _ in range(_DEEPEST):
        keys += sum(len(node) for node in level if isinstance(node, dict))
        children = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return keys
    raise HTTPException(400, f"{what} is nested more than {_DEEPEST} levels deep.")


def _refuse_many_values(body: bytes, what: str) -> None:
    """Counts what stands outside of strings; before parsing, which is what would cost."""
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    outline, strings = _STRING.subn(b"", unescaped, _MOST_VALUES)
    if strings == _MOST_VALUES or outline.count(b":") + outline.count(b",") + outline.count(b"[") > _MOST_VALUES:
        raise HTTPException(413, f"{what} holds more than {_MOST_VALUES} values: send long lists as files.")


def _refuse_repeated_keys(body: bytes) -> None:
    _PAIRWISE.decode(body.decode())


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise HTTPException(400, f"The key {key[:_SHOWN_CHARACTERS]!r} is given more than once in one object.")
    return found


# Numbers as texts, since int() refuses thousands of digits.
_PAIRWISE = json.JSONDecoder(object_pairs_hook=_without_repetition, parse_int=str)
