"""Wanted Instances: reads demand, Instances and Nodes, asks the two pure functions, writes Instance rows.

Also tells everyone who waits why, and ends the waiting for what cannot run at all.
"""

from sqlalchemy import Row

from core import catalog, demand, fleet, predictions
from core.database import Transaction
from core.lifecycle import FailureCode, InstanceStatus, VersionStatus
from core.log import get_logger
from scheduler.autoscaling import Bounds, Demand, Supply, wanted
from scheduler.placement import Assignment, Held, Need, NodeState, Plan, plan
from scheduler.sweeps.base import Context, Sweep

INTERVAL_SECONDS = 1.0
#: So many Instances of a Version that fail within the window, and none that works: it is broken, not unlucky.
CRASH_LOOP_FAILURES = 3
CRASH_LOOP_SECONDS = 600.0
#: Then whoever asks is refused at once for this long, before one more is tried.
CRASH_LOOP_PAUSE_SECONDS = 30.0
#: Instances of one target, where nobody has set a bound.
MAX_INSTANCES = 8
#: Who waits for less on a target that is being served is not told why: it would cost a write for nearly everyone.
EXPLAIN_SECONDS = 2.0
#: A boot that nobody has measured yet.
_GUESSED_BOOT_SECONDS = 1.0

log = get_logger()


class _World:
    """The rows one pass looks at."""

    def __init__(self, demand: list[Row], instances: list[Row], running: dict[str, int], nodes: list[Row]) -> None:
        self.demand = {row.target: row for row in demand}
        self.instances = instances
        self.running = running
        self.nodes = nodes
        self.versions: dict[str, Row] = {}
        self.hardware: dict[str, Row] = {}

    @classmethod
    async def read(cls, tx: Transaction) -> "_World":
        world = cls(
            await demand.demand(tx),
            await fleet.live_instances(tx),
            await demand.running_by_instance(tx),
            await fleet.live_nodes(tx),
        )
        ids = {row.version_id for row in (*world.demand.values(), *world.instances)}
        if ids:
            world.versions = await catalog.versions_by_id(tx, list(ids))
            world.hardware = {row.sku: row for row in await catalog.list_hardware(tx)}
        return world

    def instances_of(self, target: str) -> list[Row]:
        return [row for row in self.instances if row.target == target and row.is_wanted]

    def boot_seconds(self, target: str) -> float:
        measured = [row.setup_seconds for row in self.instances_of(target) if row.setup_seconds]
        return max(measured, default=_GUESSED_BOOT_SECONDS)


async def run(context: Context) -> None:
    database = context.resources.database
    async with database.autocommit() as tx:
        world = await _World.read(tx)
    if not world.demand and not world.instances:
        return
    bounds = Bounds(0, MAX_INSTANCES, context.resources.settings.idle_seconds)
    needs: list[Need] = []
    runnable: list[str] = []
    for target in {**world.demand, **{row.target: None for row in world.instances}}:
        async with database.transaction() as tx:
            if not await _is_runnable(tx, world, target):
                continue
            runnable.append(target)
            missing = _missing(world, target, bounds)
            if missing > 0:
                needs.append(_need(world, target, missing))
            elif missing < 0:
                await _let_go(tx, world, target, -missing)
    needs.sort(key=lambda need: -need.oldest_wait)
    decided = plan(needs, [_node(row) for row in world.nodes], [_held(world, row) for row in world.instances])
    async with database.transaction() as tx:
        await _apply(tx, world, decided)
        for target in runnable:
            await _explain(tx, world, decided, target)


async def _is_runnable(tx: Transaction, world: _World, target: str) -> bool:
    """Whether Instances of this target make sense now; if not, those who wait are told, or refused."""
    row = world.demand.get(target)
    if row is None or not row.waiting:
        return True
    version = world.versions[row.version_id]
    if version.status == VersionStatus.PREPARING:
        await demand.explain(tx, target, f"{_name(version)} is being prepared: its environment is not ready yet.")
        return False
    if version.status == VersionStatus.FAILED:
        reason = f"This version could not be prepared: {version.status_reason}"
        await predictions.refuse(tx, target, FailureCode.PREPARATION, reason)
        return False
    return not await _is_crash_loop(tx, world, target, row.version_id)


def _name(version: Row) -> str:
    return f"Version {version.id[:12]}"


async def _is_crash_loop(tx: Transaction, world: _World, target: str, version_id: str) -> bool:
    if world.instances_of(target):
        return False
    failures = await fleet.failed_setups(tx, version_id, CRASH_LOOP_SECONDS)
    if len(failures) < CRASH_LOOP_FAILURES or failures[0].seconds_ago > CRASH_LOOP_PAUSE_SECONDS:
        return False
    last = failures[0]
    reason = f"{len(failures)} containers of this version failed to start. The last one: {last.reason}"
    count = await predictions.refuse(tx, target, FailureCode.SETUP, reason, logs=last.setup_logs)
    log.warning("crash loop", target=target, refused=count, reason=last.reason)
    return True


def _missing(world: _World, target: str, bounds: Bounds) -> int:
    """How many Instances more, or fewer, there should be."""
    instances, row = world.instances_of(target), world.demand.get(target)
    ready = [instance for instance in instances if instance.status == InstanceStatus.READY]
    idle = [instance for instance in ready if not world.running.get(instance.id)]
    version = world.versions[row.version_id if row else instances[0].version_id] if row or instances else None
    demand = Demand(
        waiting=row.waiting if row else 0,
        running=row.running if row else 0,
        oldest_wait=float(row.oldest_wait or 0.0) if row else 0.0,
        slots=version.slots if version else 1,
    )
    supply = Supply(
        booting=len(instances) - len(ready),
        ready=len(ready),
        boot_seconds=world.boot_seconds(target),
        idle_seconds=tuple(instance.idle_seconds for instance in idle),
    )
    return wanted(demand, supply, bounds) - len(instances)


def _need(world: _World, target: str, missing: int) -> Need:
    row = world.demand[target]
    hardware = world.hardware[row.hardware_sku]
    return Need(
        target=target,
        version_id=row.version_id,
        artifact_kind=world.versions[row.version_id].artifact_kind,
        hardware_sku=row.hardware_sku,
        missing=missing,
        waiting=row.waiting,
        oldest_wait=float(row.oldest_wait),
        gpu_count=hardware.gpu_count,
        gpu_model=hardware.gpu_model,
    )


async def _let_go(tx: Transaction, world: _World, target: str, count: int) -> None:
    idle = [
        row
        for row in world.instances_of(target)
        if row.status == InstanceStatus.READY and not world.running.get(row.id)
    ]
    for row in sorted(idle, key=lambda row: -row.idle_seconds)[:count]:
        await fleet.unwant(tx, row.id, f"Idle for {row.idle_seconds:.0f} s.")
        log.info("letting go", instance=row.id, target=target, idle_seconds=round(row.idle_seconds))


def _node(row: Row) -> NodeState:
    gpus = {gpu["uuid"]: gpu["name"] for gpu in row.gpus if gpu["healthy"]}
    return NodeState(row.id, row.name, frozenset(row.artifact_kinds), row.max_instances, gpus, row.is_cordoned)


def _held(world: _World, row: Row) -> Held:
    demand = world.demand.get(row.target)
    return Held(
        id=row.id,
        node_id=row.node_id,
        target=row.target,
        version_id=row.version_id,
        gpu_uuids=tuple(row.gpu_uuids),
        evictable=row.is_wanted and row.status == InstanceStatus.READY and demand is None,
        idle_seconds=float(row.idle_seconds or 0.0),
        boot_seconds=world.boot_seconds(row.target),
        leaving=not row.is_wanted,
    )


async def _apply(tx: Transaction, world: _World, decided: Plan) -> None:
    for assignment in decided.assignments:
        await _assign(tx, world, assignment)
    for instance_id, reason in decided.evictions.items():
        log.info("evicting", instance=instance_id, reason=reason)
        await fleet.unwant(tx, instance_id, reason)


async def _explain(tx: Transaction, world: _World, decided: Plan, target: str) -> None:
    """Tells whoever waits what for. On a target that is being served, only where the waiting lasts."""
    row, instances = world.demand.get(target), world.instances_of(target)
    if row is None or not row.waiting:
        return
    slots = sum(instance.slots for instance in instances if instance.status == InstanceStatus.READY)
    refusal = decided.refusals.get(target, "")
    if not slots:
        boots = instances or not refusal
        await demand.explain(tx, target, "A container is being started for this model." if boots else refusal)
    elif row.oldest_wait > EXPLAIN_SECONDS:
        await demand.explain(tx, target, f"All slots ({slots}) of this model are busy. {refusal}".rstrip())


async def _assign(tx: Transaction, world: _World, assignment: Assignment) -> None:
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
