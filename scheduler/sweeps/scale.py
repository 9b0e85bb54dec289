"""Wanted Instances: reads demand, Instances and Nodes, asks the two pure functions, writes Instance rows.

Also tells everyone who waits why, and ends the waiting for what cannot run at all.
"""

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Row

from core import demand, fleet, unstarted
from core.database import Transaction
from core.lifecycle import FailureCode, VersionStatus
from core.log import get_logger
from scheduler.autoscaling import Demand, Supply, wanted
from scheduler.placement import Assignment, Held, Need, NodeState, Plan, plan
from scheduler.sweeps.base import Context, Sweep
from scheduler.world import Target, World

INTERVAL_SECONDS = 1.0
#: So many Instances of a Version that fail within the window, and none that works: it is broken, not unlucky.
CRASH_LOOP_FAILURES = 3
CRASH_LOOP_SECONDS = 600.0
#: Then whoever asks is refused at once for this long, before one more is tried.
CRASH_LOOP_PAUSE_SECONDS = 30.0
#: Who waits for less on a target that is being served is not told why: it would cost a write for nearly everyone.
EXPLAIN_SECONDS = 2.0

UNFUNDED = "The account that pays for the containers of this model has too little money left to start another one."

log = get_logger()


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why an Instance makes no sense now, as those who wait are told; with a `code` they are refused."""

    reason: str
    code: FailureCode | None = None
    logs: str = ""


async def run(context: Context) -> None:
    database, settings = context.resources.database, context.resources.settings
    async with database.autocommit() as tx:
        world = await World.read(tx, settings.idle_seconds, settings.bill_instances)
        failures = await _failures(tx, world)
    if not world.targets:
        return
    needs: list[Need] = []
    runnable: list[Target] = []
    # A transaction for what is to be written, and none for the many that are as they should be.
    for target in world.targets.values():
        if target.is_closed and (target.waiting or target.running):
            async with database.transaction() as tx:
                await unstarted.cancel_target(tx, target.name)
        obstacle = _obstacle(world, target, failures[target.version_id])
        if obstacle is None:
            runnable.append(target)
        elif target.waiting:
            async with database.transaction() as tx:
                await _turn_away(tx, target, obstacle)
    for target in runnable:
        missing = _missing(world, target)
        if missing > 0:
            needs.append(_need(world, target, missing))
        elif missing < 0:
            async with database.transaction() as tx:
                await _let_go(tx, world, target, -missing)
    needs.sort(key=lambda need: -need.oldest_wait)
    decided = plan(needs, [_node(row) for row in world.nodes], _all_held(world))
    async with database.transaction() as tx:
        await _apply(tx, world, decided, settings.bill_instances)
        for target in runnable:
            await _explain(tx, decided, target)


async def _failures(tx: Transaction, world: World) -> dict[str, list[Row]]:
    """By Version: its Instances that failed to start lately, newest first, where more may be started."""
    ids = {target.version_id for target in world.targets.values() if _may_be_crash_loop(target)}
    found: dict[str, list[Row]] = defaultdict(list)
    for row in await fleet.failed_setups(tx, ids, CRASH_LOOP_SECONDS) if ids else ():
        found[row.version_id].append(row)
    return found


def _may_be_crash_loop(target: Target) -> bool:
    if target.is_closed:
        return False
    return not target.instances if target.waiting else target.lacks_minimum


def _obstacle(world: World, target: Target, failures: list[Row]) -> Obstacle | None:
    """What keeps Instances of this target from making sense now; None: nothing, or nobody wants any."""
    if target.is_closed or not (target.waiting or target.lacks_minimum):
        return None
    version = world.versions[target.version_id]
    if version.status == VersionStatus.PREPARING:
        return Obstacle(f"Version {version.id[:12]} is being prepared: its environment is not ready yet.")
    if version.status == VersionStatus.FAILED:
        return Obstacle(f"This version could not be prepared: {version.status_reason}", FailureCode.PREPARATION)
    if target.is_unfunded and not target.instances:
        return Obstacle(UNFUNDED)
    return _crash_loop(target, failures) if _may_be_crash_loop(target) else None


def _crash_loop(target: Target, failures: list[Row]) -> Obstacle | None:
    if len(failures) < CRASH_LOOP_FAILURES or failures[0].seconds_ago > CRASH_LOOP_PAUSE_SECONDS:
        return None
    last = failures[0]
    log.warning("crash loop", target=target.name, waiting=target.waiting, reason=last.reason)
    reason = f"{len(failures)} containers of this version failed to start. The last one: {last.reason}"
    return Obstacle(reason, FailureCode.SETUP, last.setup_logs)


async def _turn_away(tx: Transaction, target: Target, obstacle: Obstacle) -> None:
    if obstacle.code is None:
        await demand.explain(tx, target.name, obstacle.reason)
    else:
        await unstarted.refuse(tx, target.name, obstacle.code, obstacle.reason, logs=obstacle.logs)


def _missing(world: World, target: Target) -> int:
    """How many Instances more, or fewer, there should be."""
    count, ready = len(target.instances), target.ready
    demand = Demand(target.waiting, target.running, target.oldest_wait, world.versions[target.version_id].slots)
    supply = Supply(
        booting=count - len(ready),
        ready=len(ready),
        boot_seconds=target.boot_seconds,
        idle_seconds=tuple(row.idle_seconds for row in ready if world.is_idle(row)),
    )
    return wanted(demand, supply, target.bounds) - count


def _need(world: World, target: Target, missing: int) -> Need:
    hardware = world.hardware[target.hardware_sku]
    return Need(
        target=target.name,
        version_id=target.version_id,
        artifact_kind=world.versions[target.version_id].artifact_kind,
        hardware_sku=target.hardware_sku,
        missing=missing,
        waiting=target.waiting,
        oldest_wait=target.oldest_wait,
        gpu_count=hardware.gpu_count,
        gpu_model=hardware.gpu_model,
        deployment_id=target.deployment_id,
        limit=target.limit,
    )


async def _let_go(tx: Transaction, world: World, target: Target, count: int) -> None:
    """The longest idle first. Others go only where there are more than there may be: those finish what they run."""
    for row in _idle_first(world, target)[:count]:
        reason = f"Idle for {row.idle_seconds:.0f} s." if world.is_idle(row) else "More than its deployment wants."
        await fleet.unwant(tx, row.id, reason)
        log.info("letting go", instance=row.id, target=target.name, reason=reason)


def _idle_first(world: World, target: Target) -> list[Row]:
    return sorted(target.instances, key=lambda row: (not world.is_idle(row), -(row.idle_seconds or 0.0)))


def _node(row: Row) -> NodeState:
    gpus = {gpu["uuid"]: gpu["name"] for gpu in row.gpus if gpu["healthy"]}
    return NodeState(row.id, row.name, frozenset(row.artifact_kinds), row.max_instances, gpus, row.is_cordoned)


def _all_held(world: World) -> list[Held]:
    spare = {
        row.id
        for target in world.targets.values()
        if not target.waiting and not target.running
        for row in _idle_first(world, target)[: max(0, len(target.instances) - target.bounds.minimum)]
        if world.is_idle(row)
    }
    return [_held(world.targets[row.target], row, row.id in spare) for row in world.instances]


def _held(target: Target, row: Row, is_spare: bool) -> Held:
    return Held(
        id=row.id,
        node_id=row.node_id,
        target=row.target,
        version_id=row.version_id,
        gpu_uuids=tuple(row.gpu_uuids),
        evictable=is_spare,
        idle_seconds=float(row.idle_seconds or 0.0),
        boot_seconds=target.boot_seconds,
        leaving=not row.is_wanted,
        deployment_id=target.deployment_id,
        oldest_wait=target.oldest_wait,
    )


async def _apply(tx: Transaction, world: World, decided: Plan, bill_instances: str) -> None:
    for assignment in decided.assignments:
        await _assign(tx, world, assignment, bill_instances)
    for instance_id, reason in decided.evictions.items():
        log.info("evicting", instance=instance_id, reason=reason)
        await fleet.unwant(tx, instance_id, reason)


async def _explain(tx: Transaction, decided: Plan, target: Target) -> None:
    """Tells whoever waits what for. On a target that is being served, only where the waiting lasts."""
    if not target.waiting:
        return
    slots = sum(row.slots for row in target.ready)
    refusal = UNFUNDED if target.is_unfunded else decided.refusals.get(target.name, "")
    if not slots:
        boots = target.instances or not refusal
        await demand.explain(tx, target.name, "A container is being started for this model." if boots else refusal)
    elif target.oldest_wait > EXPLAIN_SECONDS:
        await demand.explain(tx, target.name, f"All slots ({slots}) of this model are busy. {refusal}".rstrip())


async def _assign(tx: Transaction, world: World, assignment: Assignment, bill_instances: str) -> None:
    need = assignment.need
    instance_id = await fleet.assign(
        tx,
        node_id=assignment.node_id,
        target=need.target,
        version_id=need.version_id,
        hardware_sku=need.hardware_sku,
        slots=world.versions[need.version_id].slots,
        gpu_uuids=assignment.gpu_uuids,
        deployment_id=need.deployment_id,
        bill_instances=bill_instances,
    )
    log.info("assigned", instance=instance_id, target=need.target, node=assignment.node_id)


SWEEP = Sweep("scale", INTERVAL_SECONDS, run, wakes=True)
