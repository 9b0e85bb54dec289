"""What an operator does to Nodes and Instances: cordon, drain, label, share. Each deed is in the audit log, and with
its reason among the events.

Knows only what is wanted: the scheduler and the nodes make it so. Every verb raises `NotFound`.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, select, update

from core import events, fleet
from core.database import Transaction, seconds_from_now
from core.errors import Conflict, NotFound
from core.people import audit
from core.redis import SCHEDULER_BELL, node_channel, publish, ring
from core.tables import Node


async def cordon(tx: Transaction, name: str, on: bool, actor: str) -> None:
    """Whether it gets no new Instances; those that are there stay."""
    reason = "It gets no new Instances." if on else "It gets new Instances again."
    await _change(tx, name, "cordon" if on else "uncordon", actor, reason, is_cordoned=on)


async def drain_node(tx: Transaction, name: str, seconds: float, actor: str) -> None:
    """Empties it: it gets no new Instances, and what it runs may finish within `seconds`. Until `undrain_node`."""
    reason = f"It is being emptied: what it runs may finish within {seconds:g} s."
    await _change(tx, name, "drain", actor, reason, drain_deadline_at=seconds_from_now(seconds))


async def undrain_node(tx: Transaction, name: str, actor: str) -> None:
    """It gets new Instances again; those that are leaving leave."""
    await _change(tx, name, "undrain", actor, "It is no longer being emptied.", drain_deadline_at=None)


async def share(tx: Transaction, name: str, on: bool, actor: str) -> None:
    """Whether Instances whose measured peaks fit together may share a GPU there, whatever their Versions."""
    reason = "Instances that fit together may share its GPUs." if on else "Each Instance has its GPUs to itself."
    await _change(tx, name, "share", actor, reason, shares_gpus=on)


async def label(tx: Transaction, name: str, labels: Mapping[str, str | None], actor: str) -> dict[str, str]:
    """Gives it these labels, and takes away those that are None; the others stay. Returns all it has now."""
    node = await node_named(tx, name)
    now = merged(node.labels, labels)
    reason = f"Its labels are {as_text(now)}." if now else "It has no labels."
    await _change(tx, name, "label", actor, reason, labels=now)
    return now


async def drain_instance(tx: Transaction, instance_id: str, seconds: float, reason: str, actor: str) -> None:
    """It takes nothing new, and what it runs may finish within `seconds`. Raises `Conflict` where it has ended."""
    row = await fleet.get_instance(tx, instance_id)
    if row is None:
        raise NotFound(f"There is no instance {instance_id}.")
    if not await fleet.drain_instance(tx, instance_id, seconds, reason, actor):
        ended = row.ended_at is not None
        raise Conflict(f"Instance {instance_id} {f'is {row.status}' if ended else 'is to be gone sooner than that'}.")
    after = {"reason": reason, "seconds": seconds}
    await audit.record(tx, "instance.drain", events.instance(instance_id), account_id=row.owner_id, after=after)


def merged(labels: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**labels, **changes}.items() if value is not None}


def as_text(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))


async def node_named(tx: Transaction, name: str) -> Row:
    row = await tx.first(select(Node).where(Node.name == name).with_for_update())
    if row is None:
        raise NotFound(f"There is no node {name}.")
    return row


async def _change(tx: Transaction, name: str, verb: str, actor: str, reason: str, **values: Any) -> None:
    """What is so already is not on record a second time."""
    before = await node_named(tx, name)
    changed = [Node.__table__.c[column] for column in values]
    after = (await tx.one(update(Node).where(Node.id == before.id).values(**values).returning(*changed)))._asdict()
    was = {column: getattr(before, column) for column in values}
    if was == after:
        return
    subject = events.node(name)
    await audit.record(tx, f"node.{verb}", subject, before=was, after=after)
    await events.record(tx, subject, actor, reason=reason)
    tx.after_commit(ring, SCHEDULER_BELL)
    tx.after_commit(publish, node_channel(before.id), "converge")
