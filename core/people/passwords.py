"""Passwords: argon2id in a thread, a few at a time. Knows neither whose they are nor what they open.

Each hash takes 50 ms and 64 MiB on purpose, so not even a flood of guesses may start more than two at once.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from core.errors import Invalid
from core.ids import new_secret

SHORTEST = 10
#: Nobody types more, and hashing a megabyte would be somebody else's work.
LONGEST = 1000

_hasher = PasswordHasher()
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="passwords")
#: What the password of a person who is not there is compared with, so that it takes as long.
_nobodys: list[str] = []


def require_acceptable(password: str) -> None:
    """Raises `Invalid`."""
    if len(password) < SHORTEST:
        raise Invalid(f"A password has at least {SHORTEST} characters.")
    if len(password) > LONGEST:
        raise Invalid(f"A password has at most {LONGEST} characters.")


async def hash_password(password: str) -> str:
    """Raises `Invalid` where it is too short or too long."""
    require_acceptable(password)
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def matches(password_hash: str | None, password: str) -> bool:
    """Takes as long where there is no hash."""
    return await asyncio.get_running_loop().run_in_executor(_threads, _verify, password_hash, password)


def _verify(password_hash: str | None, password: str) -> bool:
    if not _nobodys:
        _nobodys.append(_hasher.hash(new_secret()))
    try:
        _hasher.verify(password_hash or _nobodys[0], password[: LONGEST + 1])
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None
