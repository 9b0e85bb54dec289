"""How what usage is told apart by is called on the pages: dimensions, and the names behind ids."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select

from api.web.billing.place import NONE, Place
from core.database import Transaction, one_of
from core.reports import balances
from core.reports.usage import DAY, TAG
from core.tables import Hardware, Token
from core.usage.metering import ACTIVE, IDLE, SETUP

DIMENSIONS = {
    "account": "Account",
    "model": "Model",
    "deployment": "Deployment",
    "hardware": "Hardware",
    "phase": "Phase",
    "outcome": "Outcome",
    "token": "Token",
    TAG: "Tag",
    DAY: "Day",
}
_PHASES = {ACTIVE: "Active", SETUP: "Setup", IDLE: "Idle"}
_NOTHING = {
    "deployment": "No deployment",
    "outcome": "Time of instances",
    "token": "No token",
}


async def labels(tx: Transaction, dimension: str, values: Collection[str]) -> Mapping[str, str]:
    """By value, as a roll-up has it; a value that is not in it is its own name."""
    if dimension == "account":
        return await balances.usernames(tx, values)
    if dimension == "token":
        rows = await tx.all(select(Token.id, Token.name, Token.prefix).where(one_of(Token.id, [*values])))
        return {"": _NOTHING["token"], **{row.id: f"{row.name} ({row.prefix}…)" for row in rows}}
    if dimension == "hardware":
        rows = await tx.all(select(Hardware.sku, Hardware.name).where(one_of(Hardware.sku, [*values])))
        return {row.sku: row.name for row in rows}
    if dimension == "phase":
        return _PHASES
    return {"": _NOTHING[dimension]} if dimension in _NOTHING else {}


def in_url(dimension: str, value: str, label: str) -> str:
    """As links say it: an Account by its name."""
    return label if dimension == "account" else value or NONE


async def chosen(tx: Transaction, place: Place) -> Sequence[tuple[str, str, str]]:
    """What was chosen beside the days: (dimension, what that is called, what was chosen of it)."""
    return [(name, DIMENSIONS[name], await _choice(tx, place, name)) for name in place.choices]


async def _choice(tx: Transaction, place: Place, name: str) -> str:
    value = place.choices[name]
    if name in ("account", TAG):
        return value
    of_filter = place.filter.chosen.get(name, value)
    return (await labels(tx, name, [of_filter])).get(of_filter, value)
