"""Amounts in requests: dollars in a string, exact to the nanodollar. Numbers are refused: JSON readers round them."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from core.money.pricing import nanos

#: Below a billion, as `credits.MOST_NANOS`.
PATTERN = r"^(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$"
_MORE_THAN_NOTHING = r"^(?!0(\.0+)?$)(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$"
_SCHEMA = {"type": "string", "examples": ["12.50"]}


def _nanos(value: Any) -> int:
    if not isinstance(value, str):
        raise _wrong('Must be dollars in a string, like "12.50": numbers are rounded on their way')
    if re.fullmatch(PATTERN, value):
        return nanos(value)
    if re.fullmatch(r"-[0-9.]+", value):
        raise _wrong("Must not be negative")
    if re.fullmatch(r"[0-9]{10,}(\.[0-9]*)?", value):
        raise _wrong("Must be less than 1000000000 dollars")
    if re.fullmatch(r"[0-9]+\.[0-9]{10,}", value):
        raise _wrong("Must not be finer than a nanodollar: nine digits after the point")
    raise _wrong("Must be an amount of dollars like 12.50: digits, and a point where there are cents")


def _positive_nanos(value: Any) -> int:
    amount = _nanos(value)
    if not amount:
        raise _wrong("Must be more than 0")
    return amount


def _wrong(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("format", sentence)


#: Read as nanodollars.
Dollars = Annotated[int, BeforeValidator(_nanos), WithJsonSchema({**_SCHEMA, "pattern": PATTERN})]
PositiveDollars = Annotated[
    int, BeforeValidator(_positive_nanos), WithJsonSchema({**_SCHEMA, "pattern": _MORE_THAN_NOTHING})
]
