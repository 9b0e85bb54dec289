"""What booting an Instance takes, phase by phase, and what it prints meanwhile.

A boot is four phases, each after the one before: the artifact is made ready (pull), the container is made (create), its
server comes up (boot), and the model's own imports and setup run (setup). They end when the Instance is ready.
"""

from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, select, update

from core.database import Transaction, seconds_from_now
from core.lifecycle import InstanceStatus
from core.tables import Instance

#: In their order. Instances and predictions have a column `<phase>_seconds` for each.
PHASES = ("pull", "create", "boot", "setup")

# What an operator reads first; the container's own log keeps the rest.
SETUP_LOG_CHARACTERS = 64_000


def cost(instance: Row) -> float | None:
    """Seconds that starting another one like it would take, its artifact being there; None: it was never measured."""
    phases = (instance.create_seconds, instance.boot_seconds, instance.setup_seconds)
    return None if instance.setup_seconds is None else sum(seconds or 0.0 for seconds in phases)


def waited_for(since: ColumnElement[Any]) -> dict[str, ColumnElement[float]]:
    """Of an Instance's boot, the part that whoever waited `since` then waited for, by column.

    Whoever came in the middle of it waited only for its end, and for nothing where the Instance was ready already.
    """
    left = func.extract("epoch", Instance.ready_at - since)
    waited = {}
    for phase in reversed(PHASES):
        column = f"{phase}_seconds"
        seconds = func.coalesce(getattr(Instance, column), 0.0)
        waited[column] = func.greatest(0.0, func.least(left, seconds))
        left = left - seconds
    return waited


def bounded(logs: str) -> str:
    """Their end, as Postgres can store it."""
    return logs[-SETUP_LOG_CHARACTERS:].replace("\x00", "\ufffd")


async def note_logs(tx: Transaction, instance_id: str, logs: str) -> None:
    """What its setup has printed so far. What it printed in the end is written as it leaves `starting`."""
    await tx.execute(
        update(Instance)
        .where(Instance.id == instance_id, Instance.status == InstanceStatus.STARTING)
        .values(setup_logs=bounded(logs))
    )


async def forget_logs(tx: Transaction, seconds: float, limit: int) -> int:
    """Of the Instances that ended longer ago than that, the oldest; returns how many."""
    is_old = and_(Instance.ended_at < seconds_from_now(-seconds), Instance.setup_logs != "")
    old = select(Instance.id).where(is_old).order_by(Instance.ended_at).limit(limit)
    return (await tx.execute(update(Instance).where(Instance.id.in_(old)).values(setup_logs=""))).rowcount
