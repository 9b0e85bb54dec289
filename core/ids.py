"""Identifiers: 26 lowercase Crockford characters, sortable by time of creation, 80 bits of chance."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def new_secret() -> str:
    """160 bits that nobody guesses, safe in a URL."""
    return secrets.token_hex(20)
