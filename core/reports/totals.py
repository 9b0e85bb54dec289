"""A sum over many rows, as the whole number it is."""

from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Numeric, cast, func
from sqlalchemy.types import TypeDecorator


class Whole(TypeDecorator[int]):
    """Of any size: ten wallets may hold more together than a bigint does."""

    impl = Numeric
    cache_ok = True

    def process_result_value(self, value: Decimal | None, dialect: Any) -> int | None:
        return None if value is None else int(value)


def total(column: Any, *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    """0 of no rows."""
    summed = func.sum(column)
    return cast(func.coalesce(summed.filter(*conditions) if conditions else summed, 0), Whole)
