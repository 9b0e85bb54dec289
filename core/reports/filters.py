"""Which usage a page is about: the days, and what else was chosen. Pure; knows columns, asks nothing."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement

#: What usage can be told apart by, as its URL says it, and the column that has it.
COLUMNS = {
    "account": "account_id",
    "model": "model",
    "deployment": "deployment",
    "hardware": "hardware_sku",
    "phase": "phase",
    "outcome": "outcome",
    "token": "token_id",
}
#: All that is known of a tag: the sums by tag have no more.
_OF_TAGS = ("account", "model")
_UTC_MIDNIGHT = time(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Filter:
    """Both days are in it, by UTC. Each of the others is None for all, or the one value; `""` is: none of them."""

    first: date
    last: date
    account: str | None = None
    """An Account's id."""
    model: str | None = None
    deployment: str | None = None
    hardware: str | None = None
    phase: str | None = None
    outcome: str | None = None
    token: str | None = None
    """A Token's id."""
    tag: tuple[str, str] | None = None

    @property
    def since(self) -> datetime:
        return datetime.combine(self.first, _UTC_MIDNIGHT)

    @property
    def until(self) -> datetime:
        """Just after it."""
        return datetime.combine(self.last + timedelta(days=1), _UTC_MIDNIGHT)

    @property
    def chosen(self) -> dict[str, str]:
        """By dimension, without days and tag."""
        return {name: value for name in COLUMNS if (value := getattr(self, name)) is not None}

    @property
    def unanswerable(self) -> list[str]:
        """What a sum by tag cannot regard: only the runs themselves know it."""
        return [name for name in self.chosen if name not in _OF_TAGS] if self.tag else []

    def conditions(self, table: Any) -> list[ColumnElement[bool]]:
        """On a table that has these columns, without the days; those that it lacks are left out."""
        wanted = {COLUMNS[name]: value for name, value in self.chosen.items()}
        return [table.c[column] == value for column, value in wanted.items() if column in table.c]
