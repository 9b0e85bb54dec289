"""What placement is told and what it answers. Plain values: no rows, no clock."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: (name, value) pairs. Every Node has `node`, its name.
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Need:
    """A target that should have `missing` more Instances. `gpu_model` None: it runs without a GPU."""

    target: str
    version_id: str
    artifact_kind: str
    hardware_sku: str
    missing: int
    waiting: int
    oldest_wait: float = 0.0
    gpu_count: int = 0
    gpu_model: str | None = None
    deployment_id: str | None = None
    limit: int | None = None
    """How many Instances its Deployment may have, whatever their target."""
    boot_seconds: float = 0.0
    artifact: str | None = None
    """Best where it is already."""
    node_labels: Labels = frozenset()
    """A Node must have all of them."""
    shares_gpu: bool = False
    """Whether its Version may share a GPU anywhere, not only where the Node says so."""
    peak_bytes: int | None = None
    """The most that it was seen to use on one GPU; None: never measured, so it gets GPUs of its own."""
    worth: float = math.inf
    """Others make room for it whose loss is less than this, see `autoscaling.loss`. Infinite where somebody waits, or
    it is to be kept warm; 0: it takes what is free."""
    avoids: frozenset[str] = frozenset()
    """Nodes and GPUs on which its latest containers died: rather on others."""
    is_spread: bool = False
    """Rather on a Node that has none of its Deployment, so that the loss of one Node is not the loss of all."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A process on a GPU that is none of ours. `memory_bytes` None: the driver does not say."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of a GPU, or of a MIG slice, beyond its model. `number`: its place among its Node's."""

    number: int
    model: str
    memory_bytes: int
    foreign: tuple[Foreign, ...] = ()
    fault: str | None = None
    """Why it is to get nothing new; None: it is healthy."""


@dataclass(frozen=True, slots=True)
class NodeState:
    id: str
    name: str
    artifact_kinds: frozenset[str]
    max_instances: int
    gpus: dict[str, str]
    """Healthy GPUs: UUID to model."""
    is_cordoned: bool = False
    is_draining: bool = False
    labels: Labels = frozenset()
    artifacts: frozenset[str] = frozenset()
    """Images and bundles that are there."""
    shares_gpus: bool = False
    """Whether Instances whose peaks are measured may share its GPUs, whatever their Versions say."""
    devices: Mapping[str, Device] = field(default_factory=dict)
    """By UUID, the unhealthy ones too. Of a GPU that is not named here no memory is shared."""

    @property
    def is_open(self) -> bool:
        return not (self.is_cordoned or self.is_draining)


@dataclass(frozen=True, slots=True)
class Held:
    """An Instance whose container may exist, and what it holds. `evictable`: ready, idle, nobody waits for it, and it
    is not kept warm. `oldest_wait`: of who waits for its target."""

    id: str
    node_id: str
    target: str
    version_id: str
    gpu_uuids: tuple[str, ...]
    evictable: bool
    idle_seconds: float = 0.0
    boot_seconds: float = 0.0
    leaving: bool = False
    deployment_id: str | None = None
    oldest_wait: float = 0.0
    age_seconds: float | None = None
    """Since it became ready; None: as long as it has been idle, as far as anybody knows."""
    loss: float | None = None
    """What losing it would cost, see `autoscaling.loss`; None: guessed from its boot and its idling."""
    is_pinned: bool = False
    """It makes room for nobody."""
    displaceable: bool = False
    """Ready and kept warm by work alone, so that it may be drained for who has waited too long."""
    shares_gpu: bool = False
    reserved_bytes: int | None = None
    """What it was given of each of its GPUs, or uses of it, if that is more; None: all of it."""


@dataclass(frozen=True, slots=True)
class Assignment:
    need: Need
    node_id: str
    gpu_uuids: tuple[str, ...]
    shares_gpu: bool = False
    reserved_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    assignments: list[Assignment] = field(default_factory=list)
    evictions: dict[str, str] = field(default_factory=dict)
    """Id of an idle Instance to the reason, a sentence."""
    displaced: dict[str, str] = field(default_factory=dict)
    """As `evictions`, of Instances that may be at work: those drain, and finish what they run."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Target to the reason why it gets fewer Instances than it needs."""
