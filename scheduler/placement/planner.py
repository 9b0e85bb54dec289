"""One plan: each need is placed, or refused and room is made for it."""

from collections.abc import Hashable

from scheduler.placement import refusals
from scheduler.placement.board import Board
from scheduler.placement.clearing import Clearing
from scheduler.placement.nouns import Assignment, Held, Need, NodeState, Plan

_FOR_WAITING = "Made room for another model, which is waited for."
_FOR_WARM = "Made room for a deployment that is kept warm."
_FOR_PATIENT = "Makes room for another model, which has been waited for too long: it ends when its runs have."


def plan(needs: list[Need], nodes: list[NodeState], held: list[Held]) -> Plan:
    """Places needs in the given order, the most urgent first: one for each, then the second ones, and so on. Never
    takes a GPU twice or more of its memory than there is, exceeds a Node's room or passes the limit of a Deployment."""
    return _Planner(needs, nodes, held).plan()


class _Planner:
    def __init__(self, needs: list[Need], nodes: list[NodeState], held: list[Held]) -> None:
        self._needs = needs
        self._board = Board(needs, nodes, held)
        self._clearing = Clearing(self._board, held)
        self._result = Plan()
        self._refused: dict[Hashable, str] = {}
        """What is free only becomes less: what fitted nowhere once need not be tried again, nor explained."""

    def plan(self) -> Plan:
        wave = [(need, need.missing) for need in self._needs if need.missing > 0]
        while wave:
            wave = [(need, missing - 1) for need, missing in wave if self._settle(need) and missing > 1]
        return self._result

    def _settle(self, need: Need) -> bool:
        """One more Instance of it, now or soon. False: there can be none."""
        found = self._place(need)
        if found is not None:
            self._result.assignments.append(found)
            return True
        self._result.refusals[need.target] = self._refusal(need)
        if not need.worth:
            return False
        victims = self._clearing.find(need)
        for victim in victims or ():
            if victim.evictable or self._board.is_full(need):
                self._result.evictions[victim.id] = _FOR_WAITING if need.waiting else _FOR_WARM
            else:
                self._result.displaced[victim.id] = _FOR_PATIENT
        return victims is not None

    def _place(self, need: Need) -> Assignment | None:
        return None if _kind(need) in self._refused else self._board.place(need)

    def _refusal(self, need: Need) -> str:
        if self._board.is_full(need) and self._board.fits(need):
            return refusals.full(need)
        kind = _kind(need)
        if kind not in self._refused:
            self._refused[kind] = refusals.refusal(need, self._board.places.values())
        return self._refused[kind]


def _kind(need: Need) -> Hashable:
    """Needs of one kind fit in the same places."""
    shared = (need.peak_bytes, need.shares_gpu) if need.gpu_count == 1 and need.peak_bytes is not None else None
    return need.artifact_kind, need.hardware_sku, need.gpu_model, need.gpu_count, need.node_labels, shared
