"""What a pass has read, as the plain values that autoscaling and placement are told."""

import math
from typing import Any

from sqlalchemy import Row

from core.lifecycle import InstanceStatus
from scheduler.autoscaling import Demand, Supply, loss
from scheduler.placement import Device, Foreign, Held, Need, NodeState
from scheduler.world import Target, World


def demanded(world: World, target: Target) -> Demand:
    slots = world.versions[target.version_id].slots
    return Demand(target.servable, target.running, target.oldest_wait, slots, target.run_seconds, target.arrivals)


def supplied(world: World, target: Target) -> Supply:
    ready = target.ready
    return Supply(
        booting=len(target.instances) - len(ready),
        ready=len(ready),
        boot_seconds=target.boot_seconds,
        idle_seconds=tuple(float(row.idle_seconds) for row in ready if world.is_idle(row)),
    )


def need(world: World, target: Target, missing: int) -> Need:
    hardware, version = world.hardware[target.hardware_sku], world.versions[target.version_id]
    return Need(
        target=target.name,
        version_id=target.version_id,
        artifact_kind=version.artifact_kind,
        hardware_sku=target.hardware_sku,
        missing=missing,
        waiting=target.servable,
        oldest_wait=target.oldest_wait,
        gpu_count=hardware.gpu_count,
        gpu_model=hardware.gpu_model,
        deployment_id=target.deployment_id,
        limit=target.limit,
        boot_seconds=target.boot_seconds,
        artifact=version.artifact,
        node_labels=frozenset(version.node_labels.items()),
        shares_gpu=version.shares_gpu,
        peak_bytes=version.peak_bytes,
        worth=_worth(target),
        avoids=frozenset(id for row in target.crashes for id in (row.node_id, *row.gpu_uuids)),
        is_spread=target.deployment_id is not None and target.bounds.minimum > 1,
    )


def _worth(target: Target) -> float:
    """Nobody makes room again and again for what is kept warm, called by nobody, and dies."""
    if target.crashes and not target.waiting:
        return 0.0
    return target.worth or math.inf


def node(row: Row) -> NodeState:
    # A GPU that is cut into MIG slices is no device itself: they are.
    parents = {gpu["parent"] for gpu in row.gpus if gpu.get("parent")}
    devices = {gpu["uuid"]: _device(number, gpu) for number, gpu in enumerate(row.gpus) if gpu["uuid"] not in parents}
    return NodeState(
        id=row.id,
        name=row.name,
        artifact_kinds=frozenset(row.artifact_kinds),
        max_instances=row.max_instances,
        gpus={uuid: device.model for uuid, device in devices.items() if device.fault is None},
        is_cordoned=row.is_cordoned,
        is_draining=row.drain_deadline_at is not None,
        labels=frozenset({**row.labels, "node": row.name}.items()),
        artifacts=frozenset(row.artifacts),
        shares_gpus=row.shares_gpus,
        devices=devices,
    )


def _device(number: int, gpu: dict[str, Any]) -> Device:
    foreign = tuple(Foreign(process["pid"], process.get("memory_bytes")) for process in gpu.get("foreign") or ())
    fault = None if gpu["healthy"] else gpu["reason"] or "it is not healthy"
    return Device(number, gpu["name"], gpu["memory_bytes"] or 0, foreign, fault)


def held(world: World) -> list[Held]:
    """Every Instance whose container may exist."""
    found = []
    for target in world.targets.values():
        beyond = max(0, len(target.instances) - target.bounds.minimum)
        spare = {row.id for row in idle_first(world, target)[:beyond]}
        found += [_held(world, target, row, row.id in spare) for row in target.instances]
    return found + [_held(world, world.targets[row.target], row, False) for row in world.instances if not row.is_wanted]


def idle_first(world: World, target: Target) -> list[Row]:
    """Its Instances, in the order in which they are not needed: the longest idle first."""
    return sorted(target.instances, key=lambda row: (not world.is_idle(row), -(row.idle_seconds or 0.0)))


def _held(world: World, target: Target, row: Row, is_spare: bool) -> Held:
    idle_seconds = float(row.idle_seconds or 0.0)
    is_idle, boot_seconds = world.is_idle(row), target.boot_seconds
    return Held(
        id=row.id,
        node_id=row.node_id,
        target=row.target,
        version_id=row.version_id,
        gpu_uuids=tuple(row.gpu_uuids),
        evictable=is_spare and is_idle and not target.servable,
        idle_seconds=idle_seconds,
        boot_seconds=boot_seconds,
        leaving=not row.is_wanted,
        deployment_id=target.deployment_id,
        oldest_wait=target.oldest_wait,
        age_seconds=_age(row, idle_seconds),
        loss=loss(boot_seconds, idle_seconds, target.arrivals) if is_idle else None,
        is_pinned=target.is_pinned,
        displaceable=is_spare and row.status == InstanceStatus.READY,
        shares_gpu=row.shares_gpu,
        reserved_bytes=max(row.reserved_bytes, row.peak_bytes or 0) if row.reserved_bytes is not None else None,
    )


def _age(row: Row, idle_seconds: float) -> float:
    """By the database's clock, as `idle_seconds` is."""
    if row.ready_at is None:
        return 0.0
    latest = max(row.ready_at, row.last_active_at or row.ready_at)
    return idle_seconds + (latest - row.ready_at).total_seconds()
