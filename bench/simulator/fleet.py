"""What there is at one moment of the virtual day: Nodes, Instances, and who waits. Decides nothing, and holds that no
GPU is ever given to two."""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from bench.simulator.traffic import Model, Scale
from scheduler.placement import NodeState

GPU_MODEL = "NVIDIA L40S"
#: As many arrivals of a target as the queue remembers.
ARRIVALS = 32
#: So many of the latest runs and boots make a mean, as in core/demand.py.
_LATEST_RUNS = 20
#: A boot that nobody has measured yet, as in scheduler/world.py.
_GUESSED_BOOT_SECONDS = 1.0


class Use(StrEnum):
    """What GPUs are used for."""

    FREE = "free"
    BOOTING = "booting"
    BUSY = "busy"
    IDLE = "idle"
    LEAVING = "leaving"


@dataclass(eq=False, slots=True)
class Instance:
    id: str
    target: "Target"
    node_id: str
    gpu_uuids: tuple[str, ...]
    use: Use
    since: float
    """When it came to be used so."""
    ready_at: float | None = None
    is_pinned: bool = False

    @property
    def is_idle(self) -> bool:
        return self.use is Use.IDLE


@dataclass(eq=False, slots=True)
class Target:
    number: int
    model: Model
    maximum: int
    waiting: deque[tuple[float, float]] = field(default_factory=deque)
    """When it was called, and for how long it will run."""
    running: int = 0
    instances: set[Instance] = field(default_factory=set)
    """Those that are wanted."""
    idle: dict[Instance, None] = field(default_factory=dict)
    """The longest idle first: it takes the next call, as the one that has listened at the bell for longest does."""
    called_at: deque[float] = field(default_factory=lambda: deque(maxlen=ARRIVALS))
    runs: deque[float] = field(default_factory=lambda: deque(maxlen=_LATEST_RUNS))
    measured_boot: float | None = None

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def boot_seconds(self) -> float:
        """As measured the last time."""
        return _GUESSED_BOOT_SECONDS if self.measured_boot is None else self.measured_boot

    @property
    def run_seconds(self) -> float | None:
        return sum(self.runs) / len(self.runs) if self.runs else None

    @property
    def ready(self) -> int:
        return sum(instance.use is not Use.BOOTING for instance in self.instances)

    def arrivals(self, now: float) -> tuple[float, ...]:
        return tuple([now - moment for moment in self.called_at])

    def oldest_wait(self, now: float) -> float:
        return now - self.waiting[0][0] if self.waiting else 0.0


class Fleet:
    def __init__(self, scale: Scale, models: list[Model], maximum: int) -> None:
        self.targets = [Target(number, model, maximum) for number, model in enumerate(models)]
        self.by_name = {target.name: target for target in self.targets}
        self.instances: dict[str, Instance] = {}
        self.nodes = [_node(number, scale.gpus_per_node) for number in range(scale.nodes)]
        self.free_gpus = {uuid for node in self.nodes for uuid in node.gpus}
        self.gpu_seconds = dict.fromkeys(Use, 0.0)
        self.boots = 0

    def boot(self, target: Target, node_id: str, gpu_uuids: tuple[str, ...], now: float) -> Instance:
        if not self.free_gpus.issuperset(gpu_uuids) or len(set(gpu_uuids)) != target.model.gpus:
            raise AssertionError(f"{gpu_uuids} for {target.name}: not free, or not as many as it needs.")
        if len(target.instances) >= target.maximum:
            raise AssertionError(f"{target.name} has {len(target.instances)} Instances, all that it may have.")
        self.boots += 1
        self.free_gpus.difference_update(gpu_uuids)
        instance = Instance(f"i{self.boots}", target, node_id, gpu_uuids, Use.BOOTING, now)
        self.instances[instance.id] = instance
        target.instances.add(instance)
        return instance

    def turn(self, instance: Instance, use: Use, now: float) -> None:
        self._count(instance, now)
        instance.use = use
        if use is Use.IDLE:
            instance.target.idle[instance] = None
        else:
            instance.target.idle.pop(instance, None)

    def let_go(self, instance: Instance, now: float) -> None:
        if not instance.is_idle or instance.is_pinned:
            raise AssertionError(f"{instance.id} of {instance.target.name} is {instance.use}, and was to go.")
        self.turn(instance, Use.LEAVING, now)
        instance.target.instances.remove(instance)

    def displace(self, instance: Instance) -> None:
        if instance.is_pinned:
            raise AssertionError(f"{instance.id} of {instance.target.name} is pinned, and was to go.")
        instance.target.instances.remove(instance)

    def gone(self, instance: Instance, now: float) -> None:
        self._count(instance, now)
        del self.instances[instance.id]
        self.free_gpus.update(instance.gpu_uuids)

    def close(self, now: float, scale: Scale) -> dict[Use, float]:
        """GPU-seconds by what they were used for, once the day is over."""
        for instance in self.instances.values():
            self._count(instance, now)
        rest = scale.gpus * now - sum(self.gpu_seconds.values())
        return {**self.gpu_seconds, Use.FREE: rest}

    def _count(self, instance: Instance, now: float) -> None:
        self.gpu_seconds[instance.use] += (now - instance.since) * len(instance.gpu_uuids)
        instance.since = now


def _node(number: int, gpus: int) -> NodeState:
    name = f"node-{number:04}"
    uuids = {f"GPU-{number:04}-{gpu}": GPU_MODEL for gpu in range(gpus)}
    return NodeState(name, name, frozenset({"image"}), gpus, uuids)
