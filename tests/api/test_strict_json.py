"""JSON is read as everybody reads it, unless two readers could disagree or reading it would cost out of proportion."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from api.strict_json import read_json

#: Texts that look like what stands around them.
SIGNS = [
    '"',
    ":",
    ",",
    "[",
    "]",
    "{",
    "}",
    "\\",
    " ",
    "\n",
    "a",
    "\u00e9",
    "\U0001f600",
    "data:",
    "http",
    "https",
    "://",
]
TEXTS = st.lists(st.sampled_from(SIGNS), max_size=6).map("".join)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=20
)
SPACINGS = st.sampled_from([None, 1, "\t"])


@given(DOCUMENTS, SPACINGS, st.booleans())
def test_every_document_is_read_as_it_is(document: Any, indent: Any, is_ascii: bool) -> None:
    document = orjson.loads(orjson.dumps(document))
    text = json.dumps(document, indent=indent, ensure_ascii=is_ascii, allow_nan=False)
    assert read_json(text.encode()) == document


@given(st.dictionaries(TEXTS, LEAVES, min_size=1, max_size=4), DOCUMENTS, st.integers(0, 3), SPACINGS)
def test_a_key_given_twice_in_one_object_is_named(pairs: dict, around: Any, depth: int, indent: Any) -> None:
    key = next(iter(pairs))
    once = json.dumps(pairs, indent=indent)
    twice = once.rstrip().removesuffix("}") + f", {json.dumps(key, ensure_ascii=False)} \n: 1}}"
    for _ in range(depth):
        twice = f'{{"a": [{json.dumps(around)}, {twice}]}}'
    assert refusal_of(twice.encode()) == (400, f"The key {key!r} is given more than once in one object.")


MASSES = {
    "lists": b"[" + b"[]," * 200_000 + b"1]",
    "numbers": b"[" + b"1," * 200_000 + b"1]",
    "texts": b"[" + b'"",' * 200_000 + b"1]",
    "objects": b"[" + b'{"a":1},' * 100_000 + b"1]",
    "keys": b"{" + b",".join(b'"%d":1' % number for number in range(100_000)) + b"}",
    "towers": b"[" + b",".join([b"[" * 150 + b"]" * 150] * 1_000) + b"]",
    "behind a text": b'["' + b'\\",' * 1_000_000 + b'",' + b"1," * 200_000 + b"1]",
}


@pytest.mark.parametrize("body", MASSES.values(), ids=MASSES.keys())
def test_masses_of_values_are_refused(body: bytes) -> None:
    assert refusal_of(body) == (413, "The body holds more than 100000 values: send long lists as files.")


FULL_OF_SIGNS = {
    "table": "1,2,3\n" * 300_000,
    "JSON": '{"a": [1, 2]}\n' * 100_000,
    "backslashes": "\\,\\\\,\\\\\\," * 50_000,
    "URLs": "data://,http://" * 100_000,
}


@pytest.mark.parametrize("text", FULL_OF_SIGNS.values(), ids=FULL_OF_SIGNS.keys())
def test_a_text_may_hold_as_many_signs_as_it_likes(text: str) -> None:
    assert read_json(orjson.dumps({"a": text, "b": [1, 2]})) == {"a": text, "b": [1, 2]}


def test_long_lists_of_numbers_are_read() -> None:
    assert read_json(orjson.dumps([0.5] * 90_000)) == [0.5] * 90_000


def refusal_of(body: bytes) -> tuple[int, str]:
    with pytest.raises(HTTPException) as raised:
        read_json(body)
    return raised.value.status_code, raised.value.detail
