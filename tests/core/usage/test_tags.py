"""Tags as they are written in a header."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from core.errors import BadRequest
from core.usage.tags import MOST_TAGS, parse

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}", fullmatch=True)
values = st.from_regex(r"[!-+\--~]{0,127}", fullmatch=True)


@bounds(max_examples=100, deadline=None)
@given(st.dictionaries(names, values, max_size=MOST_TAGS))
def test_what_is_written_is_read(tags: dict[str, str]) -> None:
    assert (parse(", ".join(f"{name}={value}" for name, value in tags.items())) or {}) == tags


@bounds(max_examples=200, deadline=None)
@given(st.text(max_size=100))
def test_any_text_is_tags_or_a_sentence(text: str) -> None:
    with contextlib.suppress(BadRequest):
        tags = parse(text)
        assert tags is None or 1 <= len(tags) <= MOST_TAGS


@pytest.mark.parametrize("header", [None, "", " ", ",", " , ,"])
def test_nothing_is_no_tags(header: str | None) -> None:
    assert parse(header) is None
