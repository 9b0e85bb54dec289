"""Wanted Instances: reads demand, Instances and Nodes, asks the pure functions, writes Instance rows.

Also tells everyone who waits why, and ends the waiting for what cannot run at all.
"""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import Row

from core import crashes, demand, fleet, unstarted
from core.database import Database, Transaction
from core.log import get_logger
from scheduler import inventory
from scheduler.autoscaling import wanted
from scheduler.hints import Hints
from scheduler.obstacles import CRASH_LOOP_SECONDS, UNFUNDED, Obstacle, in_a_row, obstacle
from scheduler.placement import Assignment, Need, Plan, plan
from scheduler.sweeps.base import Context, Sweep
from scheduler.world import Target, World

INTERVAL_SECONDS = 1.0
#: Who waits for less on a target that is being served is not told why: it would cost a write for nearly everyone.
EXPLAIN_SECONDS = 2.0
#: Of the last boot's logs, everyone who is refused gets a copy of the end: thousands may be.
_TOLD_LOG_CHARACTERS = 8_000

_HINTS = Hints()

log = get_logger()


async def run(context: Context) -> None:
    database, settings = context.resources.database, context.resources.settings
    async with database.autocommit() as tx:
        world = await World.read(tx, _HINTS, settings)
        await world.listen(context.resources.redis, _HINTS)
        missing = {target.name: _missing(world, target) for target in world.targets.values()}
        obstacles = await _obstacles(tx, world, missing)
    # A transaction for what is to be written, and none for the many that are as they should be.
    needs: list[Need] = []
    for target in world.targets.values():
        if target.is_closed and (target.waiting or target.running):
            async with database.transaction() as tx:
                await unstarted.cancel_target(tx, target.name)
        if missing[target.name] < 0:
            async with database.transaction() as tx:
                await _let_go(tx, world, target, -missing[target.name])
        elif missing[target.name] > 0 and target.name not in obstacles:
            needs.append(inventory.need(world, target, missing[target.name]))
    needs.sort(key=lambda need: -need.oldest_wait)
    decided = plan(needs, [inventory.node(row) for row in world.nodes], inventory.held(world))
    await _apply(database, world, decided, settings.bill_instances)
    _HINTS.foresight.spend(assignment.need.target for assignment in decided.assignments)
    await _tell(database, world, obstacles, decided)


def _missing(world: World, target: Target) -> int:
    """How many Instances more, or fewer, there should be."""
    if target.worth:
        return 1
    count = wanted(inventory.demanded(world, target), inventory.supplied(world, target), target.bounds)
    return count - len(target.instances)


async def _obstacles(tx: Transaction, world: World, missing: Mapping[str, int]) -> dict[str, Obstacle]:
    """By target that wants an Instance, why it gets none."""
    wanting = [target for target in world.targets.values() if missing[target.name] > 0 or _has_nothing(target)]
    died: dict[tuple[str, str], list[Row]] = defaultdict(list)
    ids = {target.version_id for target in wanting}
    for row in await crashes.of(tx, ids, CRASH_LOOP_SECONDS) if ids else ():
        died[row.version_id, row.hardware_sku].append(row)
    found = {}
    for target in wanting:
        version = world.versions[target.version_id]
        target.crashes = in_a_row(died[target.version_id, target.hardware_sku], version)
        found[target.name] = obstacle(target, version)
    return {name: each for name, each in found.items() if each is not None}


def _has_nothing(target: Target) -> bool:
    return bool(target.waiting) and not target.instances and not target.is_closed


async def _let_go(tx: Transaction, world: World, target: Target, count: int) -> None:
    """The longest idle first. Others go only where there are more than there may be: those finish what they run."""
    for row in inventory.idle_first(world, target)[:count]:
        reason = f"Idle for {row.idle_seconds:.0f} s." if world.is_idle(row) else "More than its deployment wants."
        await fleet.unwant(tx, row.id, reason)
        log.info("letting go", instance=row.id, target=target.name, reason=reason)


# --- what is decided --------------------------------------------------------------------------------------------------


async def _apply(database: Database, world: World, decided: Plan, bill_instances: str) -> None:
    leaving = {**decided.evictions, **decided.displaced}
    if not decided.assignments and not leaving:
        return
    async with database.transaction() as tx:
        for assignment in decided.assignments:
            await _assign(tx, world, assignment, bill_instances)
        for instance_id, reason in leaving.items():
            log.info("evicting", instance=instance_id, reason=reason)
            await fleet.unwant(tx, instance_id, reason)


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
        shares_gpu=assignment.shares_gpu,
        reserved_bytes=assignment.reserved_bytes,
        deployment_id=need.deployment_id,
        bill_instances=bill_instances,
    )
    log.info("assigned", instance=instance_id, target=need.target, node=assignment.node_id)


# --- what those who wait are told -------------------------------------------------------------------------------------


async def _tell(database: Database, world: World, obstacles: Mapping[str, Obstacle], decided: Plan) -> None:
    for target in world.targets.values():
        found = obstacles.get(target.name)
        if not target.waiting or target.is_closed:
            continue
        if found is not None and found.code is not None and not target.instances:
            log.warning("refused", target=target.name, waiting=target.waiting, reason=found.reason)
            async with database.transaction() as tx:
                last = await fleet.get_instance(tx, found.instance_id) if found.instance_id else None
                logs = last.setup_logs[-_TOLD_LOG_CHARACTERS:] if last else ""
                await unstarted.refuse(tx, target.name, found.code, found.reason, logs=logs)
            continue
        reason = _reason(target, found.reason if found else decided.refusals.get(target.name, ""))
        if reason not in (None, target.told):
            async with database.transaction() as tx:
                await demand.explain(tx, target.name, reason)


def _reason(target: Target, refusal: str) -> str | None:
    """None: nothing need be said. On a target that is being served, only where the waiting lasts."""
    if target.is_unfunded:
        refusal = UNFUNDED
    if not target.servable and not target.instances:
        return refusal or None  # Their accounts' limits keep them back, as the queue tells each of them.
    slots = sum(row.slots for row in target.ready)
    if not slots:
        return refusal if refusal and not target.instances else demand.STARTED
    if target.servable and target.oldest_wait > EXPLAIN_SECONDS:
        return f"All slots ({slots}) of this model are busy. {refusal}".rstrip()
    return None


SWEEP = Sweep("scale", INTERVAL_SECONDS, run, wakes=True)
