"""Whose an Instance is, and whether its owner pays for its time or callers for their runs.

A Deployment's owner, else the Model's. Who pays is a setting of the operator, see `Settings.bill_instances`; it is
frozen on the Instance when it is assigned.
"""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Row,
    Select,
    TableValuedAlias,
    Text,
    and_,
    false,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.orm import aliased

from core.database import Transaction
from core.money import prices
from core.money.holds import WALLET, spendable
from core.tables import Account, Deployment, Model, Version

#: What must be there before an Instance is started: as much as is set aside for it from then on.
AHEAD_SECONDS = 60

PRIVATE, ALWAYS, NEVER = "private", "always", "never"

_ModelOwner, _DeploymentOwner = aliased(Account), aliased(Account)
_OWNER_ID = func.coalesce(Deployment.owner_id, Model.owner_id)


class Wanted(NamedTuple):
    """A target that may get an Instance."""

    name: str
    version_id: str
    hardware_sku: str
    deployment_id: str | None


async def served(tx: Transaction, version_id: str, deployment_id: str | None, policy: str) -> Row | None:
    """What an Instance copies: `model`, `deployment`, `owner_id`, `bills_time`. None: there is no such Version."""
    return await tx.first(
        select(
            func.coalesce(_ModelOwner.username + "/" + Model.name, "").label("model"),
            (_DeploymentOwner.username + "/" + Deployment.name).label("deployment"),
            _OWNER_ID.label("owner_id"),
            func.coalesce(and_(_OWNER_ID.is_not(None), _bills_time(policy)), false()).label("bills_time"),
        )
        .select_from(Version)
        .outerjoin(Model, Model.id == Version.model_id)
        .outerjoin(_ModelOwner, _ModelOwner.id == Model.owner_id)
        .outerjoin(Deployment, Deployment.id == deployment_id)
        .outerjoin(_DeploymentOwner, _DeploymentOwner.id == Deployment.owner_id)
        .where(Version.id == version_id)
    )


def _bills_time(policy: str) -> ColumnElement[bool]:
    if policy == PRIVATE:
        return or_(Deployment.id.is_not(None), Model.visibility == "private")
    return true() if policy == ALWAYS else false()


async def unfunded(tx: Transaction, targets: Collection[Wanted], policy: str) -> set[str]:
    """The names of those whose owner would pay for another Instance, and has not the money for its first minute."""
    if not targets or policy == NEVER:
        return set()
    return {row.name for row in await tx.all(_unfunded(targets, policy))}


async def billed(tx: Transaction, targets: Collection[Wanted], policy: str) -> set[str]:
    """The names of those whose owner would pay for the time of an Instance."""
    if not targets or policy == NEVER:
        return set()
    return {row.name for row in await tx.all(_wanted(targets, policy)[1])}


def _unfunded(targets: Collection[Wanted], policy: str) -> Select:
    wanted, statement = _wanted(targets, policy)
    _, second = prices.second_of(wanted.c.hardware_sku, _OWNER_ID, func.now())
    return statement.join(WALLET, WALLET.c.account_id == _OWNER_ID).where(
        WALLET.c.credit_limit_nanos.is_not(None), spendable() < second * AHEAD_SECONDS
    )


def _wanted(targets: Collection[Wanted], policy: str) -> tuple[TableValuedAlias, Select]:
    """Them, and those of them whose owner would pay for their time."""
    columns = [literal(list(values), ARRAY(Text)) for values in zip(*targets, strict=True)]
    wanted = func.unnest(*columns).table_valued(*Wanted._fields, name="wanted").render_derived()
    statement = (
        select(wanted.c.name)
        .join(Version, Version.id == wanted.c.version_id)
        .outerjoin(Model, Model.id == Version.model_id)
        .outerjoin(Deployment, Deployment.id == wanted.c.deployment_id)
        .where(_bills_time(policy))
    )
    return wanted, statement
