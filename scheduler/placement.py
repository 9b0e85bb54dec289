"""Which Instance goes where, and which must go first. Pure; every refusal is a sentence a person can act on.

GPUs are devices, taken by UUID and held until the container is gone: an Instance that drains still holds its GPUs.
"""

from collections import Counter
from dataclasses import dataclass, field


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


@dataclass(frozen=True, slots=True)
class NodeState:
    id: str
    name: str
    artifact_kinds: frozenset[str]
    max_instances: int
    gpus: dict[str, str]
    """Healthy GPUs: UUID to model."""
    is_cordoned: bool = False


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


@dataclass(frozen=True, slots=True)
class Assignment:
    need: Need
    node_id: str
    gpu_uuids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    assignments: list[Assignment] = field(default_factory=list)
    evictions: dict[str, str] = field(default_factory=dict)
    """Instance id to the reason, a sentence."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Target to the reason why it gets fewer Instances than it needs."""


def plan(needs: list[Need], nodes: list[NodeState], held: list[Held]) -> Plan:
    """Places needs in the given order, the most urgent first. Never takes a GPU twice, exceeds a node's room or passes
    the limit of a Deployment."""
    board = _Board(nodes, held)
    result = Plan()
    for need in needs:
        for _ in range(need.missing):
            found = board.place(need)
            if found is None:
                break
            result.assignments.append(found)
        else:
            continue
        result.refusals[need.target] = board.refusal(need)
        victim = board.victim(need)
        if victim is not None:
            result.evictions[victim.id] = _EVICTED_FOR_WAITING if need.waiting else _EVICTED_FOR_WARM
    return result


_EVICTED_FOR_WAITING = "Made room for another model, which is waited for."
_EVICTED_FOR_WARM = "Made room for a deployment that is kept warm."


class _Board:
    """What is free while the plan is being made."""

    def __init__(self, nodes: list[NodeState], held: list[Held]) -> None:
        self._nodes = nodes
        self._held = held
        self._evicted: set[str] = set()
        self._count = Counter(instance.node_id for instance in held)
        self._near = Counter((instance.node_id, instance.version_id) for instance in held)
        self._deployed = Counter(instance.deployment_id for instance in held)
        taken = {uuid for instance in held for uuid in instance.gpu_uuids}
        self._free = {node.id: [uuid for uuid in node.gpus if uuid not in taken] for node in nodes}

    def place(self, need: Need) -> Assignment | None:
        fitting = [node for node in self._nodes if self._fits(node, need)]
        if not fitting or self._is_full(need):
            return None
        # Packed tightly: where the Version is already, else where least is free, so that whole nodes stay empty.
        best = max(fitting, key=lambda node: (self._near[node.id, need.version_id], -self._room(node), node.name))
        uuids = tuple(self._matching(best, need)[: need.gpu_count])
        self._free[best.id] = [uuid for uuid in self._free[best.id] if uuid not in uuids]
        self._count[best.id] += 1
        self._near[best.id, need.version_id] += 1
        self._deployed[need.deployment_id] += 1
        return Assignment(need, best.id, uuids)

    def victim(self, need: Need) -> Held | None:
        """The Instance that is cheapest to lose among those whose going would help. One at a time: its container must
        be gone before its place is free."""
        if any(instance.leaving and self._would_help(instance, need) for instance in self._held):
            return None
        may_go = self._gives_way if self._is_full(need) else self._is_evictable
        candidates = [
            instance
            for instance in self._held
            if instance.id not in self._evicted
            and instance.target != need.target
            and may_go(instance, need)
            and self._would_help(instance, need)
        ]
        if not candidates:
            return None
        cheapest = min(candidates, key=lambda instance: instance.boot_seconds / (1.0 + instance.idle_seconds))
        self._evicted.add(cheapest.id)
        return cheapest

    def _is_evictable(self, instance: Held, need: Need) -> bool:
        # Younger than its own boot, evicting it would be thrashing.
        return instance.evictable and instance.idle_seconds >= instance.boot_seconds

    def _gives_way(self, instance: Held, need: Need) -> bool:
        """Within a Deployment the place is theirs who wait longest: who came for an earlier Release, until served."""
        return need.oldest_wait > instance.oldest_wait

    def refusal(self, need: Need) -> str:
        if self._is_full(need) and any(self._fits(node, need) for node in self._nodes):
            return f"The deployment has all {need.limit} containers that its max_instances allows."
        usable = [node for node in self._nodes if need.artifact_kind in node.artifact_kinds]
        is_open = [node for node in usable if not node.is_cordoned]
        if not self._nodes:
            return "No node is up: start one with `python -m worker node`."
        if not usable:
            runs = {"image": "Docker", "bundle": "the process runtime"}[need.artifact_kind]
            return f"No node runs {runs}, which this model needs."
        if not is_open:
            return "Every node that could run this model is cordoned."
        if not need.gpu_count or any(len(self._matching(node, need)) >= need.gpu_count for node in is_open):
            return f"All {sum(node.max_instances for node in is_open)} places for containers are taken."
        return self._gpu_refusal(need, is_open)

    def _gpu_refusal(self, need: Need, nodes: list[NodeState]) -> str:
        if not any(_could_hold(node, need) for node in nodes):
            wanted = need.gpu_model if need.gpu_count == 1 else f"{need.gpu_count} {need.gpu_model}"
            return f"No node has a healthy {wanted}, the Hardware {need.hardware_sku} of this model."
        fitting = sum(model == need.gpu_model for node in nodes for model in node.gpus.values())
        free = sum(len(self._matching(node, need)) for node in nodes)
        together = f"{need.gpu_count} on one node" if need.gpu_count > 1 else "1"
        return f"{fitting - free} of {fitting} {need.gpu_model} busy; this model needs {together}."

    def _is_full(self, need: Need) -> bool:
        return need.limit is not None and self._deployed[need.deployment_id] >= need.limit

    def _fits(self, node: NodeState, need: Need) -> bool:
        return (
            not node.is_cordoned
            and need.artifact_kind in node.artifact_kinds
            and self._room(node) > 0
            and len(self._matching(node, need)) >= need.gpu_count
        )

    def _matching(self, node: NodeState, need: Need) -> list[str]:
        if not need.gpu_count:
            return []
        return [uuid for uuid in self._free[node.id] if node.gpus[uuid] == need.gpu_model]

    def _room(self, node: NodeState) -> int:
        return node.max_instances - self._count[node.id]

    def _would_help(self, instance: Held, need: Need) -> bool:
        if self._is_full(need):
            if instance.deployment_id != need.deployment_id:
                return False
            if any(self._fits(node, need) for node in self._nodes):
                return True
        node = next((node for node in self._nodes if node.id == instance.node_id), None)
        if node is None or node.is_cordoned or need.artifact_kind not in node.artifact_kinds:
            return False
        if not _could_hold(node, need):
            return False
        if len(self._matching(node, need)) < need.gpu_count:
            return any(node.gpus.get(uuid) == need.gpu_model for uuid in instance.gpu_uuids)
        return self._room(node) <= 0


def _could_hold(node: NodeState, need: Need) -> bool:
    """Whether the node, were it empty, has the GPUs."""
    return sum(model == need.gpu_model for model in node.gpus.values()) >= need.gpu_count
