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
    """An Instance whose container may exist, and what it holds. `evictable`: ready, idle, and nobody waits for it."""

    id: str
    node_id: str
    target: str
    version_id: str
    gpu_uuids: tuple[str, ...]
    evictable: bool
    idle_seconds: float = 0.0
    boot_seconds: float = 0.0
    leaving: bool = False


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
    """Places needs in the given order, the most urgent first. Never takes a GPU twice or exceeds a node's room."""
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
            result.evictions[victim.id] = "Made room for another model, which is waited for."
    return result


class _Board:
    """What is free while the plan is being made."""

    def __init__(self, nodes: list[NodeState], held: list[Held]) -> None:
        self._nodes = nodes
        self._held = held
        self._evicted: set[str] = set()
        self._count = Counter(instance.node_id for instance in held)
        self._near = Counter((instance.node_id, instance.version_id) for instance in held)
        taken = {uuid for instance in held for uuid in instance.gpu_uuids}
        self._free = {node.id: [uuid for uuid in node.gpus if uuid not in taken] for node in nodes}

    def place(self, need: Need) -> Assignment | None:
        fitting = [node for node in self._nodes if self._fits(node, need)]
        if not fitting:
            return None
        # Packed tightly: where the Version is already, else where least is free, so that whole nodes stay empty.
        best = max(fitting, key=lambda node: (self._near[node.id, need.version_id], -self._room(node), node.name))
        uuids = tuple(self._matching(best, need)[: need.gpu_count])
        self._free[best.id] = [uuid for uuid in self._free[best.id] if uuid not in uuids]
        self._count[best.id] += 1
        self._near[best.id, need.version_id] += 1
        return Assignment(need, best.id, uuids)

    def victim(self, need: Need) -> Held | None:
        """The idle Instance that is cheapest to lose among those whose going would help. One at a time: its container
        must be gone before its place is free."""
        if any(instance.leaving and self._would_help(instance, need) for instance in self._held):
            return None
        candidates = [
            instance
            for instance in self._held
            if instance.evictable
            and instance.id not in self._evicted
            and instance.target != need.target
            # Younger than its own boot, evicting it would be thrashing.
            and instance.idle_seconds >= instance.boot_seconds
            and self._would_help(instance, need)
        ]
        if not candidates:
            return None
        cheapest = min(candidates, key=lambda instance: instance.boot_seconds / (1.0 + instance.idle_seconds))
        self._evicted.add(cheapest.id)
        return cheapest

    def refusal(self, need: Need) -> str:
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
