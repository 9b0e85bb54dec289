"""Nodes and Instances as an operator sees them: in which state they are, what holds what, and what runs where."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Double, Row, Select, cast, func, or_, select

from core import events
from core.database import Transaction, seconds_from_now
from core.errors import Conflict, NotFound
from core.fleet import LOST, STOPPED, UP
from core.lifecycle import LIVE_INSTANCE, InstanceStatus
from core.tables import Account, Instance, Model, Node, Prediction, Version

#: Its lease has run out, and nobody has declared it lost yet.
LATE = "late"


@dataclass(frozen=True, slots=True)
class NodeView:
    row: Row
    """With `reported_seconds_ago` and `drain_seconds_left`."""
    state: str
    instances: list[Row]
    """Whose containers may exist there: `id`, `model` and `gpu_uuids`."""

    def holding(self, uuid: str) -> list[Row]:
        return [instance for instance in self.instances if uuid in instance.gpu_uuids]


@dataclass(frozen=True, slots=True)
class InstanceView:
    row: Row
    """With `model` and `node` by name, `age_seconds` and `ended_seconds_ago`."""
    predictions: list[str]
    """What it runs."""
    idle_seconds: float | None
    """None: it works, or is not there to."""


async def nodes(tx: Transaction) -> list[NodeView]:
    """All that ever were, by name."""
    alive = (Node.lease_expires_at > func.now()).label("is_alive")
    age = _seconds(func.now() - Node.reported_at).label("reported_seconds_ago")
    left = _seconds(Node.drain_deadline_at - func.now()).label("drain_seconds_left")
    rows = await tx.all(select(*Node.__table__.c, alive, age, left).order_by(Node.name))
    states = await events.states(tx, [events.node(row.name) for row in rows])
    there: dict[str, list[Row]] = defaultdict(list)
    for instance in await tx.all(_instances().where(Instance.status.in_(LIVE_INSTANCE)).order_by(Instance.created_at)):
        there[instance.node_id].append(instance)
    return [NodeView(row, _state(row, states.get(events.node(row.name))), there[row.id]) for row in rows]


def _state(row: Row, told: str | None) -> str:
    if row.is_alive:
        return UP
    return told if told in (STOPPED, LOST) else LATE


async def instances(tx: Transaction, ended_seconds: float = 0.0) -> list[InstanceView]:
    """Those that live, and those that ended within the last `ended_seconds`; the oldest first."""
    running: dict[str, list[str]] = defaultdict(list)
    works = select(Prediction.id, Prediction.instance_id).where(Prediction.completed_at.is_(None))
    for row in await tx.all(works.where(Prediction.instance_id.is_not(None)).order_by(Prediction.started_at)):
        running[row.instance_id].append(row.id)
    recent = or_(Instance.status.in_(LIVE_INSTANCE), Instance.ended_at > seconds_from_now(-ended_seconds))
    rows = await tx.all(_instances().where(recent).order_by(Instance.created_at, Instance.id))
    return [InstanceView(row, running[row.id], _idle_seconds(row, running[row.id])) for row in rows]


def _idle_seconds(row: Row, predictions: list[str]) -> float | None:
    return None if predictions or row.status != InstanceStatus.READY else float(row.since_work_seconds)


async def instance(tx: Transaction, id: str) -> Row:
    """By its id, or what that begins or ends with. Raises `NotFound` or `Conflict`."""
    found = await tx.all(
        _instances(Instance.setup_logs)
        .where(or_(Instance.id.startswith(id, autoescape=True), Instance.id.endswith(id, autoescape=True)))
        .limit(2)
    )
    if not found:
        raise NotFound(f"There is no instance {id}.")
    if len(found) > 1:
        raise Conflict(f"More than one instance begins or ends with {id}: give more of its id.")
    return found[0]


def _instances(*more: Any) -> Select:
    # What its usage records copy is there only where it has an owner.
    model = func.coalesce(Account.username + "/" + Model.name, Instance.model).label("model")
    return (
        select(
            *(column for column in Instance.__table__.c if column.name not in ("model", "setup_logs")),
            model,
            Node.name.label("node"),
            Node.gpus.label("node_gpus"),
            _seconds(func.now() - Instance.created_at).label("age_seconds"),
            _seconds(func.now() - Instance.ended_at).label("ended_seconds_ago"),
            _seconds(func.now() - func.greatest(Instance.last_active_at, Instance.ready_at)).label(
                "since_work_seconds"
            ),
            *more,
        )
        .join(Node, Node.id == Instance.node_id)
        .join(Version, Version.id == Instance.version_id)
        .outerjoin(Model, Model.id == Version.model_id)
        .outerjoin(Account, Account.id == Model.owner_id)
    )


def _seconds(interval: Any) -> ColumnElement[float]:
    return cast(func.extract("epoch", interval), Double)
