"""Passwords: which are taken, and that a comparison gives nothing away."""

import asyncio

import pytest

from core.errors import Invalid
from core.people.passwords import LONGEST, SHORTEST, hash_password, matches

PASSWORD = "pässwörter sind lang"


async def test_a_password_matches_its_hash_and_no_other_does() -> None:
    hashed = await hash_password(PASSWORD)
    assert await matches(hashed, PASSWORD)
    for other in (PASSWORD.upper(), f"{PASSWORD} ", "", "x" * 100_000):
        assert not await matches(hashed, other)
    assert hashed != await hash_password(PASSWORD)


async def test_where_there_is_nobody_nothing_matches() -> None:
    assert not await matches(None, PASSWORD)
    assert not await matches("no hash", PASSWORD)


@pytest.mark.parametrize("password", ["", "x" * (SHORTEST - 1), "x" * (LONGEST + 1)])
async def test_too_short_and_too_long_ones_are_refused(password: str) -> None:
    with pytest.raises(Invalid, match="A password has at"):
        await hash_password(password)


async def test_hashing_does_not_hold_up_the_loop() -> None:
    turns, is_hashed = 0, asyncio.create_task(hash_password(PASSWORD))
    while not is_hashed.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 1
