"""How what usage is told apart by is called on the pages: dimensions, and the names behind ids."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select

from api.web.billing.place import NONE, Place
from core.database import Transaction, one_of
from core.metering import ACTIVE, IDLE, SETUP
from core.reports import balances
from core.reports.usage import DAY, TAG
from core.tables import Hardware, Token

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
    """What was chosen beside the days, each as (dimension, label, link to this page without it is the caller's)."""
    found = []
    for name, value in place.choices.items():
        shown = place.filter.chosen.get(name, value)
        names = await labels(tx, name, [shown]) if name != "account" else {}
        found.append((name, DIMENSIONS[name], value if name == "account" else names.get(shown, shown)))
    return found
