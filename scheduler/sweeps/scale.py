"""Wanted Instances: reads demand, Instances and Nodes, asks the two pure functions, writes Instance rows.

Also tells everyone who waits why, and ends the waiting for what cannot run at all.
"""

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

log = get_logger()


async def run(context: Context) -> None:
    database = context.resources.database
    async with database.autocommit() as tx:
        world = await World.read(tx, context.resources.settings.idle_seconds)
    if not world.targets:
        return
    needs: list[Need] = []
    runnable: list[Target] = []
    for target in world.targets.values():
        async with database.transaction() as tx:
            if not await _is_runnable(tx, world, target):
                continue
            runnable.append(target)
            missing = _missing(world, target)
            if missing > 0:
                needs.append(_need(world, target, missing))
            elif missing < 0:
                await _let_go(tx, world, target, -missing)
    needs.sort(key=lambda need: -need.oldest_wait)
    decided = plan(needs, [_node(row) for row in world.nodes], _all_held(world))
    async with database.transaction() as tx:
        await _apply(tx, world, decided)
        for target in runnable:
            await _explain(tx, decided, target)


async def _is_runnable(tx: Transaction, world: World, target: Target) -> bool:
    """Whether Instances of this target make sense now; if not, those who wait are told, refused or canceled."""
    if target.is_closed and (target.waiting or target.running):
        await unstarted.cancel_target(tx, target.name)
    if target.is_closed or not (target.waiting or target.lacks_minimum):
        return True
    version = world.versions[target.version_id]
    if version.status == VersionStatus.PREPARING:
        reason = f"{_name(version)} is being prepared: its environment is not ready yet."
        await demand.explain(tx, target.name, reason)
        return False
    if version.status == VersionStatus.FAILED:
        reason = f"This version could not be prepared: {version.status_reason}"
        await unstarted.refuse(tx, target.name, FailureCode.PREPARATION, reason)
        return False
    return not await _is_crash_loop(tx, target)


def _name(version: Row) -> str:
    return f"Version {version.id[:12]}"


async def _is_crash_loop(tx: Transaction, target: Target) -> bool:
    if target.waiting and target.instances:
        return False
    failures = await fleet.failed_setups(tx, target.version_id, CRASH_LOOP_SECONDS)
    if len(failures) < CRASH_LOOP_FAILURES or failures[0].seconds_ago > CRASH_LOOP_PAUSE_SECONDS:
        return False
    last = failures[0]
    reason = f"{len(failures)} containers of this version failed to start. The last one: {last.reason}"
    count = await unstarted.refuse(tx, target.name, FailureCode.SETUP, reason, logs=last.setup_logs)
    log.warning("crash loop", target=target.name, refused=count, reason=last.reason)
    return True


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


async def _apply(tx: Transaction, world: World, decided: Plan) -> None:
    for assignment in decided.assignments:
        await _assign(tx, world, assignment)
    for instance_id, reason in decided.evictions.items():
        log.info("evicting", instance=instance_id, reason=reason)
        await fleet.unwant(tx, instance_id, reason)


async def _explain(tx: Transaction, decided: Plan, target: Target) -> None:
    """Tells whoever waits what for. On a target that is being served, only where the waiting lasts."""
    if not target.waiting:
        return
    slots = sum(row.slots for row in target.ready)
    refusal = decided.refusals.get(target.name, "")
    if not slots:
        boots = target.instances or not refusal
        await demand.explain(tx, target.name, "A container is being started for this model." if boots else refusal)
    elif target.oldest_wait > EXPLAIN_SECONDS:
        await demand.explain(tx, target.name, f"All slots ({slots}) of this model are busy. {refusal}".rstrip())


async def _assign(tx: Transaction, world: World, assignment: Assignment) -> None:
    need = assignment.need
    instance_id = await fleet.assign(
        tx,
        node_id=assignment.node_id,
        target=need.target,
        version_id=need.version_id,
        hardware_sku=need.hardware_sku,
        slots=world.versions[need.version_id].slots,
        gpu_uuids=assignment.gpu_uuids,
    )
    log.info("assigned", instance=instance_id, target=need.target, node=assignment.node_id)


SWEEP = Sweep("scale", INTERVAL_SECONDS, run, wakes=True)
