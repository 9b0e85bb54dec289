"""The rows one pass of the scheduler looks at, put together by target, each with the bounds that hold for it now.

Reads, and decides nothing beyond those bounds.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from redis.asyncio import Redis
from sqlalchemy import Row

from core import boots, catalog, concurrency, demand, deployments, fleet
from core.clock import monotonic
from core.database import Transaction
from core.deployments import deployment_of
from core.lifecycle import InstanceStatus
from core.settings import Settings
from core.usage import instance_owners
from core.usage.instance_owners import Wanted
from scheduler.autoscaling import Bounds, share
from scheduler.foresight import Foresight
from scheduler.hints import Hints

#: Instances of one target, where nobody has set a bound.
MAX_INSTANCES = 8
#: For so long after a Release some may still come for the one before: api processes remember it for two seconds.
STRAGGLING_SECONDS = 3.0
#: A boot that nobody has measured yet.
_GUESSED_BOOT_SECONDS = 1.0


@dataclass(slots=True)
class Target:
    """A Version on a Hardware, for everybody or for one Deployment: who waits, what runs, and its Instances."""

    name: str
    version_id: str
    hardware_sku: str
    waiting: int = 0
    servable: int = 0
    """Of those who wait, they whom another Instance would help."""
    running: int = 0
    oldest_wait: float = 0.0
    told: str | None = None
    """What all who wait were told of why."""
    instances: list[Row] = field(default_factory=list)
    """Those that are wanted."""
    bounds: Bounds = field(default_factory=lambda: Bounds(0, 0, 0.0))
    deployment_id: str | None = None
    limit: int | None = None
    """What its Deployment may have, with all its targets and those that are leaving."""
    is_pinned: bool = False
    """Its Instances make room for nobody, and the last one stays."""
    pace: Row | None = None
    """Of its Version, see core/demand.py; None: nobody has asked."""
    arrivals: tuple[float, ...] = ()
    """How long ago it was called, newest first."""
    worth: float = 0.0
    """That of an Instance for a call that is foretold; 0: none is, or it is not to boot yet."""
    crashes: Sequence[Row] = ()
    """Containers that died one after the other, the newest first; see core/crashes.py."""
    is_unfunded: bool = False
    """Whoever pays for the time of its Instances has no money for another one."""

    @property
    def is_closed(self) -> bool:
        """Nothing is to run here: its Deployment is disabled, or gone."""
        return self.limit == 0

    @property
    def lacks_minimum(self) -> bool:
        return len(self.instances) < self.bounds.minimum

    @property
    def ready(self) -> list[Row]:
        return [row for row in self.instances if row.status == InstanceStatus.READY]

    @property
    def boot_seconds(self) -> float:
        measured = [cost for row in self.instances if (cost := boots.cost(row))]
        if measured:
            return max(measured)
        return (self.pace.boot_seconds if self.pace else None) or _GUESSED_BOOT_SECONDS

    @property
    def idle_seconds(self) -> float:
        """Since anybody called it, as far as its rows tell."""
        if self.waiting or self.running:
            return 0.0
        return min((float(row.idle_seconds or 0.0) for row in self.instances), default=0.0)

    @property
    def run_seconds(self) -> float | None:
        return self.pace.run_seconds if self.pace else None


class World:
    """Everything that waits, runs, or is to be kept warm, and what there is for it."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self.instances: list[Row] = []
        self.running: dict[str, int] = {}
        self.nodes: list[Row] = []
        self.versions: dict[str, Row] = {}
        self.hardware: dict[str, Row] = {}

    @classmethod
    async def read(cls, tx: Transaction, hints: Hints, settings: Settings) -> "World":
        world = cls()
        world._add_demand(await demand.demand(tx))
        world.instances = await fleet.live_instances(tx)
        world.running = await demand.running_by_instance(tx)
        world._add_instances()
        await world._foresee(tx, hints.foresight, settings.bill_instances)
        ids = {target.deployment_id for target in world.targets.values()} - {None}
        world._bound(await deployments.current_releases(tx, ids), settings.idle_seconds)
        if not world.targets:
            return world
        world._keep_back(await concurrency.kept_back(tx, settings.account_concurrency))
        world.nodes = await fleet.live_nodes(tx)
        version_ids = {target.version_id for target in world.targets.values()}
        world.versions = await catalog.version_traits(tx, version_ids)
        world.hardware = {row.sku: row for row in await catalog.list_hardware(tx)}
        world._pin()
        world._stop_growing(await instance_owners.unfunded(tx, world._growing(), settings.bill_instances))
        await world._learn(tx, hints)
        return world

    async def listen(self, redis: Redis, hints: Hints) -> None:
        """When targets were called, which Redis knows, and what that tells of their next call."""
        moment = monotonic()
        idle = {name: target.idle_seconds for name, target in self.targets.items()}
        for name, arrivals in (await hints.arrivals(redis, idle)).items():
            target = self.targets[name]
            target.arrivals = arrivals
            if arrivals and target.deployment_id is None:
                called_at = tuple([moment - age for age in arrivals])
                hints.foresight.learn(name, target.version_id, target.hardware_sku, target.boot_seconds, called_at)

    def is_idle(self, instance: Row) -> bool:
        return instance.status == InstanceStatus.READY and not self.running.get(instance.id)

    def _target(self, name: str, row: Row) -> Target:
        new = Target(name, row.version_id, row.hardware_sku, deployment_id=deployment_of(name))
        return self.targets.setdefault(name, new)

    def _add_demand(self, rows: Iterable[Row]) -> None:
        for row in rows:
            target = self._target(row.target, row)
            target.waiting = target.servable = row.waiting
            target.running = row.running
            target.oldest_wait, target.told = float(row.oldest_wait or 0.0), row.told

    def _add_instances(self) -> None:
        for row in self.instances:
            target = self._target(row.target, row)
            if row.is_wanted:
                target.instances.append(row)

    async def _foresee(self, tx: Transaction, foresight: Foresight, bill_instances: str) -> None:
        """Who has nothing and will be called soon. Nobody pays for what boots on a guess."""
        moment = monotonic()
        due = {beat.name: beat for beat in foresight.due(moment) if beat.name not in self.targets}
        asked = [Wanted(beat.name, beat.version_id, beat.hardware_sku, None) for beat in due.values()]
        known = await catalog.version_traits(tx, [beat.version_id for beat in due.values()]) if due else {}
        paid = await instance_owners.billed(tx, asked, bill_instances)
        for name, beat in due.items():
            if name not in paid and beat.version_id in known:
                self._target(name, beat).worth = beat.worth(moment)

    def _bound(self, releases: Collection[Row], idle_seconds: float) -> None:
        current = {row.deployment_id: row for row in releases}
        for row in releases:
            self._target(catalog.target(row.version_id, row.hardware_sku, row.deployment_id), row)
        by_deployment: dict[str, list[Target]] = {}
        for target in self.targets.values():
            if target.deployment_id is None:
                target.bounds = Bounds(0, MAX_INSTANCES, idle_seconds)
            else:
                by_deployment.setdefault(target.deployment_id, []).append(target)
        for id, targets in by_deployment.items():
            _bound_deployment(targets, current.get(id), idle_seconds)

    def _keep_back(self, counts: Mapping[str, int]) -> None:
        """Who waits only because their account runs as many as it may is helped by no Instance."""
        for name, count in counts.items():
            if name in self.targets:
                target = self.targets[name]
                target.servable = max(0, target.waiting - count)

    def _pin(self) -> None:
        """What is pinned is kept as if it were a Deployment's least, as soon as it is there."""
        for target in self.targets.values():
            bounds = target.bounds
            target.is_pinned = self.versions[target.version_id].is_pinned and bounds.maximum > 0
            if target.is_pinned and target.instances and not bounds.minimum:
                target.bounds = replace(bounds, minimum=1)

    async def _learn(self, tx: Transaction, hints: Hints) -> None:
        """How fast those are of whom something is asked."""
        asked = [target for target in self.targets.values() if target.waiting or target.lacks_minimum]
        paces = await hints.paces(tx, {target.version_id for target in asked})
        for target in asked:
            target.pace = paces[target.version_id]

    def _growing(self) -> list[Wanted]:
        """Those that may want another Instance."""
        return [
            Wanted(target.name, target.version_id, target.hardware_sku, target.deployment_id)
            for target in self.targets.values()
            if target.lacks_minimum or (target.servable and not target.is_closed)
        ]

    def _stop_growing(self, names: Collection[str]) -> None:
        """They keep what they have while it is used, and get no more."""
        for target in (self.targets[name] for name in names):
            target.is_unfunded = True
            maximum = min(target.bounds.maximum, len(target.instances))
            target.bounds = Bounds(0, maximum, target.bounds.idle_seconds)


def _bound_deployment(targets: list[Target], release: Row | None, idle_seconds: float) -> None:
    """Earlier Releases run what waits for them, before the current one takes the rest."""
    limit = release.max_instances if release else 0
    for target in targets:
        target.limit = limit
    if not limit:
        return
    name = catalog.target(release.version_id, release.hardware_sku, release.deployment_id)
    current = next(target for target in targets if target.name == name)
    straggling = release.age_seconds < STRAGGLING_SECONDS
    needed = [target for target in targets if target is not current and (target.waiting or straggling)]
    counts = [len(target.instances) for target in needed]
    *earlier, current.bounds = share(Bounds(release.min_instances, limit, idle_seconds), counts)
    for target, bounds in zip(needed, earlier, strict=True):
        target.bounds = bounds
