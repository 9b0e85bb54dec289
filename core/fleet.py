"""Nodes and Instances: the scheduler writes what is wanted, nodes write what is, both converge on these rows.

Every change of theirs is on record, with who made it and why, in the transaction that makes it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core import boots, events
from core.database import Transaction, one_of, seconds_from_now
from core.ids import new_id
from core.lifecycle import INSTANCE_EDGES, LIVE_INSTANCE, FailureCode, InstanceStatus, NodeFault
from core.redis import SCHEDULER_BELL, node_channel, publish, ring
from core.tables import Instance, Node
from core.usage import instance_owners

#: Stands where a node's boot id was, once its life has been declared over.
REVOKED = ""

#: What a Node is, as its events tell.
UP, STOPPED, LOST = "up", "stopped", "lost"


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node says of itself; `gpus` are {uuid, name, memory_bytes, healthy, reason}."""

    name: str
    gpus: list[dict[str, Any]]
    artifact_kinds: list[str]
    max_instances: int


async def register_node(tx: Transaction, report: NodeReport, boot_id: str, lease_seconds: float) -> Row:
    """Begins a life of the node. Whatever an earlier life of that name held is from now on fenced off."""
    values = {
        "boot_id": boot_id,
        "gpus": report.gpus,
        "artifact_kinds": report.artifact_kinds,
        "max_instances": report.max_instances,
        "lease_expires_at": seconds_from_now(lease_seconds),
        "reported_at": func.now(),
    }
    row = await tx.one(
        upsert(Node)
        .values(id=new_id(), name=report.name, **values)
        .on_conflict_do_update(index_elements=["name"], set_=values)
        .returning(Node)
    )
    subject = events.node(report.name)
    was = (await events.states(tx, [subject])).get(subject)
    kinds = " and ".join(f"{kind}s" for kind in report.artifact_kinds) or "nothing"
    reason = f"It reports {_count(len(report.gpus), 'GPU')}, runs {kinds}, and has {report.max_instances} places."
    await events.record(tx, subject, subject, was=was, becomes=UP, reason=reason)
    tx.after_commit(ring, SCHEDULER_BELL)
    return row


async def holder_alive(tx: Transaction, name: str) -> bool:
    """Whether a node of that name reports right now."""
    statement = select(exists().where(Node.name == name, Node.lease_expires_at > func.now()))
    return bool(await tx.scalar(statement))


async def heartbeat(
    tx: Transaction,
    node_id: str,
    boot_id: str,
    gpus: list[dict],
    lease_seconds: float,
    *,
    clock: float | None = None,
    artifacts: Collection[str] | None = None,
) -> bool:
    """Renews the lease. False: this life was declared lost, or the node was reborn elsewhere; it must end.

    `clock` is the node's own, in seconds since 1970; `artifacts`, what is there, ready to be started.
    """
    values: dict[str, Any] = {"lease_expires_at": seconds_from_now(lease_seconds), "gpus": gpus}
    values["reported_at"] = func.now()
    if clock is not None:
        values["clock_offset_seconds"] = clock - func.extract("epoch", func.clock_timestamp())
    if artifacts is not None:
        values["artifacts"] = sorted(artifacts)
    before = select(Node.id, Node.gpus).where(Node.id == node_id, Node.boot_id == boot_id).with_for_update().subquery()
    renewed = await tx.first(
        update(Node).where(Node.id == before.c.id).values(values).returning(Node.name, before.c.gpus)
    )
    if renewed is not None:
        await events.record_all(tx, *_changes_of_health(events.node(renewed.name), renewed.gpus, gpus))
    return renewed is not None


def _changes_of_health(subject: str, before: list[dict], now: list[dict]) -> list[dict[str, Any]]:
    """What a device is, tells the report; when it came to be so, and why, only this."""
    states, reasons = {gpu["uuid"]: gpu["healthy"] for gpu in before}, []
    for gpu in now:
        name = f"{gpu['name']} ({gpu['uuid']})"
        was_healthy = states.pop(gpu["uuid"], None)
        if gpu["healthy"] != was_healthy and not (gpu["healthy"] and was_healthy is None):
            reasons.append(f"{name} is well again." if gpu["healthy"] else f"{name} is not well: {gpu['reason']}")
    reasons += [f"The device {uuid} is not there any more." for uuid in states]
    return [events.event(subject, subject, reason=reason) for reason in reasons]


async def release_lease(tx: Transaction, node_id: str, boot_id: str) -> None:
    """An orderly goodbye: what is left is rescued at once instead of after the lease."""
    released = await tx.first(
        update(Node)
        .where(Node.id == node_id, Node.boot_id == boot_id)
        .values(lease_expires_at=func.now())
        .returning(Node.name)
    )
    if released is not None:
        subject = events.node(released.name)
        await events.record(tx, subject, subject, was=UP, becomes=STOPPED, reason="It was told to stop.")
    tx.after_commit(ring, SCHEDULER_BELL)


async def live_nodes(tx: Transaction) -> list[Row]:
    return list(await tx.all(select(Node).where(Node.lease_expires_at > func.now()).order_by(Node.name)))


# What it printed is a thousand times the rest, and these are read many times a second.
_STATE = [column for column in Instance.__table__.c if column.name != "setup_logs"]


async def live_instances(tx: Transaction, node_id: str | None = None) -> list[Row]:
    """Instances whose container may exist, on one node or on all, with when each last worked; without their logs."""
    idle_from = func.greatest(Instance.last_active_at, Instance.ready_at)
    idle_seconds = func.extract("epoch", func.now() - idle_from).label("idle_seconds")
    statement = select(*_STATE, idle_seconds).where(Instance.status.in_(LIVE_INSTANCE))
    if node_id is not None:
        statement = statement.where(Instance.node_id == node_id)
    return list(await tx.all(statement.order_by(Instance.created_at)))


async def get_instance(tx: Transaction, instance_id: str) -> Row | None:
    return await tx.first(select(Instance).where(Instance.id == instance_id))


async def statuses(tx: Transaction, instance_ids: Sequence[str]) -> dict[str, str]:
    """Of those that there are, or ever were."""
    rows = await tx.all(select(Instance.id, Instance.status).where(one_of(Instance.id, instance_ids)))
    return {row.id: row.status for row in rows}


async def assign(
    tx: Transaction,
    *,
    node_id: str,
    target: str,
    version_id: str,
    hardware_sku: str,
    slots: int,
    gpu_uuids: tuple[str, ...],
    shares_gpu: bool = False,
    reserved_bytes: int | None = None,
    deployment_id: str | None = None,
    bill_instances: str = instance_owners.PRIVATE,
) -> str:
    """The scheduler wants one more Instance there; the node is told. Who pays for its time is settled with it.

    `reserved_bytes` of each GPU are its own where it shares them.
    """
    id = new_id()
    served = await instance_owners.served(tx, version_id, deployment_id, bill_instances)
    await tx.execute(
        insert(Instance).values(
            id=id,
            target=target,
            version_id=version_id,
            hardware_sku=hardware_sku,
            node_id=node_id,
            gpu_uuids=list(gpu_uuids),
            shares_gpu=shares_gpu,
            reserved_bytes=reserved_bytes,
            slots=slots,
            status=InstanceStatus.PENDING,
            **(served._asdict() if served else {}),
        )
    )
    where = f"on {_count(len(gpu_uuids), 'GPU')}" if gpu_uuids else "without a GPU"
    reason = f"Wanted {where}, for {_count(slots, 'prediction')} at once."
    await events.record(tx, events.instance(id), events.SCHEDULER, becomes=InstanceStatus.PENDING, reason=reason)
    tx.after_commit(publish, node_channel(node_id), "converge")
    return id


async def unwant(tx: Transaction, instance_id: str, reason: str) -> None:
    """The scheduler no longer wants it; the node drains and stops it."""
    await _leave(tx, instance_id, reason, Instance.is_wanted)


async def run_out_of_money(tx: Transaction, instance_id: str, reason: str) -> bool:
    """As `unwant`, wherever it is leaving for another reason, too. False: this has been said, or it has ended.

    With a reason that begins with `insufficient_funds`, what it runs is canceled.
    """
    return await _leave(tx, instance_id, reason, Instance.reason.is_distinct_from(reason))


async def drain_instance(
    tx: Transaction, instance_id: str, seconds: float, reason: str, actor: str = events.SCHEDULER
) -> bool:
    """As `unwant`, and what it runs may finish within `seconds`. False: it has ended, or is to be gone sooner."""
    ends_at = seconds_from_now(seconds)
    sooner = or_(Instance.is_wanted, Instance.drain_deadline_at.is_(None), Instance.drain_deadline_at > ends_at)
    return await _leave(tx, instance_id, reason, sooner, actor, drain_deadline_at=ends_at)


async def _leave(
    tx: Transaction,
    instance_id: str,
    reason: str,
    condition: ColumnElement[bool],
    actor: str = events.SCHEDULER,
    **values: Any,
) -> bool:
    row = await tx.first(
        update(Instance)
        .where(Instance.id == instance_id, Instance.status.in_(LIVE_INSTANCE), condition)
        .values(is_wanted=False, reason=reason, **values)
        .returning(Instance.node_id)
    )
    if row is not None:
        await events.record(tx, events.instance(instance_id), actor, reason=f"No longer wanted. {reason}")
        tx.after_commit(publish, node_channel(row.node_id), "converge")
    return row is not None


def cancels_runs(instance: Row) -> bool:
    """Whether nobody pays for what it runs any more."""
    return bool(instance.reason) and instance.reason.startswith(FailureCode.INSUFFICIENT_FUNDS)


async def move_instance(
    tx: Transaction, instance_id: str, old: InstanceStatus, new: InstanceStatus, **values: Any
) -> bool:
    """The only way an Instance changes its status. False: it was not in `old`, so nothing changed."""
    assert (old, new) in INSTANCE_EDGES, f"{old} -> {new} is no edge of an Instance"
    if "setup_logs" in values:
        values["setup_logs"] = boots.bounded(values["setup_logs"])
    if new is InstanceStatus.READY:
        values["ready_at"] = values["last_active_at"] = func.now()
    if new.is_terminal:
        values["ended_at"] = func.now()
    by = select(Node.name).where(Node.id == Instance.node_id).scalar_subquery()
    moved = await tx.first(
        update(Instance)
        .where(Instance.id == instance_id, Instance.status == old)
        .values(status=new, **values)
        .returning(by.label("node"), Instance.reason, *_PHASES)
    )
    if moved is None:
        return False
    # A failure that nobody explains is not explained by why it was to leave.
    said = values.get("reason") if new is InstanceStatus.FAILED else moved.reason
    reason = _boot(moved) if new is InstanceStatus.READY else said
    actor = events.node(moved.node)
    await events.record(tx, events.instance(instance_id), actor, was=old, becomes=new, reason=reason)
    if new.is_terminal or new is InstanceStatus.READY:
        tx.after_commit(ring, SCHEDULER_BELL)
    return True


_PHASES = (Instance.pull_seconds, Instance.create_seconds, Instance.boot_seconds, Instance.setup_seconds)


def _boot(row: Row) -> str | None:
    told = [(phase.name.removesuffix("_seconds"), getattr(row, phase.name)) for phase in _PHASES]
    phases = [f"{name} {seconds:.2f} s" for name, seconds in told if seconds is not None]
    return f"Its container is up: {', '.join(phases)}." if phases else "Its container is up."


async def declare_lost(tx: Transaction) -> list[str]:
    """Ends the life of every node whose lease ran out, and with it its Instances; returns those.

    Until this has happened a late node may still renew its lease. Afterwards it finds its boot revoked, removes its
    containers, and only then begins another life: so no GPU is given away while somebody still computes on it.
    """
    silent = select(Node.id, Node.name).where(Node.lease_expires_at <= func.now(), Node.boot_id != REVOKED)
    nodes = {row.id: row.name for row in await tx.all(silent.with_for_update())}
    if not nodes:
        return []
    await tx.execute(update(Node).where(Node.id.in_(nodes)).values(boot_id=REVOKED))
    before = (
        select(Instance.id, Instance.status)
        .where(Instance.status.in_(LIVE_INSTANCE), Instance.node_id.in_(nodes))
        .with_for_update()
        .subquery()
    )
    rows = await tx.all(
        update(Instance)
        .where(Instance.id == before.c.id)
        .values(status=InstanceStatus.FAILED, ended_at=func.now(), reason=NodeFault.LOST)
        .returning(Instance.id, before.c.status.label("was"))
    )
    await _tell_of_loss(tx, nodes.values(), rows)
    return [row.id for row in rows]


async def _tell_of_loss(tx: Transaction, names: Collection[str], instances: Sequence[Row]) -> None:
    subjects = [events.node(name) for name in names]
    states = await events.states(tx, subjects)
    # Of one that has said goodbye nobody needs to hear that it is silent.
    silent = [subject for subject in subjects if states.get(subject) != STOPPED]
    why = "Its lease ran out: it has stopped reporting, and whatever it does from now on counts for nothing."
    failed = {"becomes": InstanceStatus.FAILED, "reason": NodeFault.LOST}
    await events.record_all(
        tx,
        *(events.event(subject, events.SCHEDULER, was=UP, becomes=LOST, reason=why) for subject in silent),
        *(events.event(events.instance(row.id), events.SCHEDULER, was=row.was, **failed) for row in instances),
    )


async def note_activity(tx: Transaction, instance_ids: list[str]) -> None:
    """These Instances are at work, or were a moment ago: their idle time starts anew."""
    await tx.execute(update(Instance).where(Instance.id.in_(instance_ids)).values(last_active_at=func.now()))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
