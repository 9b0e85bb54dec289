"""Many models on few GPUs, pass by pass in virtual time: nobody thrashes, nobody waits for ever, big ones get in."""

from dataclasses import dataclass, field, replace

from scheduler.placement import Held, Need, NodeState, plan
from scheduler.placement.clearing import LEAST_PATIENCE_SECONDS, PATIENCE_BOOTS

T4 = "NVIDIA T4"


def node(count: int, name: str = "n", **fields) -> NodeState:
    return NodeState(name, name, frozenset(["bundle"]), 8, {f"{name}-{n}": T4 for n in range(count)}, **fields)


def need(target: str, oldest_wait: float = 1.0, gpus: int = 1, **fields) -> Need:
    return Need(target, f"v-{target}", "bundle", "sku", 1, 1, oldest_wait, gpus, T4, **fields)


def held(id: str, *uuids: str, on: str = "n", target: str = "", evictable: bool = True, **fields) -> Held:
    values = {"idle_seconds": 50.0, "age_seconds": 500.0, "boot_seconds": 10.0, **fields}
    return Held(id, on, target or f"t-{id}", f"v-{id}", uuids, evictable, **values)


@dataclass
class Machine:
    """One GPU, and models that are called again and again: each call takes a slot for a second of it."""

    boot_seconds: float
    called: dict[str, range]
    clock: int = 0
    boots: list[tuple[int, str]] = field(default_factory=list)
    owner: str | None = None
    since: int = 0
    waits: dict[str, int] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)

    def run(self, seconds: int) -> None:
        for self.clock in range(seconds):
            self._call()
            self._serve()
            self._plan()

    def _call(self) -> None:
        for target, moments in self.called.items():
            if self.clock in moments:
                self.waits.setdefault(target, self.clock)

    def _is_ready(self) -> bool:
        return self.owner is not None and self.clock >= self.since + self.boot_seconds

    def _serve(self) -> None:
        if self._is_ready() and self.owner in self.waits:
            waited = self.clock - self.waits.pop(self.owner)
            self.longest[self.owner] = max(self.longest.get(self.owner, 0), waited)
            self.served_at = self.clock

    def _plan(self) -> None:
        instances = []
        if self.owner is not None:
            ready_for = self.clock - self.since - self.boot_seconds
            idles = self._is_ready() and self.owner not in self.waits and self.clock > self.served_at
            instances = [
                Held("i", "n", self.owner, "v", ("n-0",), idles, 1.0, self.boot_seconds,
                     age_seconds=max(0.0, ready_for), displaceable=self._is_ready())
            ]  # fmt: skip
        wanting = [
            need(target, float(self.clock - since), boot_seconds=self.boot_seconds)
            for target, since in sorted(self.waits.items(), key=lambda item: item[1])
            if target != self.owner
        ]
        decided = plan(wanting, [node(1)], instances)
        if decided.evictions or decided.displaced:
            self.owner = None
        elif decided.assignments:
            self.owner, self.since, self.served_at = decided.assignments[0].need.target, self.clock, self.clock
            self.boots.append((self.clock, self.owner))


def test_two_models_that_are_called_all_the_time_spend_most_of_it_at_work() -> None:
    machine = Machine(10.0, {"a": range(10_000), "b": range(10_000)})
    machine.run(2000)
    assert len(machine.boots) <= 2000 / (10 * (1 + PATIENCE_BOOTS)) + 2


def test_nobody_waits_for_ever_while_another_is_called_again_and_again() -> None:
    machine = Machine(10.0, {"busy": range(10_000), "rare": range(500, 10_000, 1000)})
    machine.run(5000)
    assert {target for _, target in machine.boots} == {"busy", "rare"}
    turn = max(LEAST_PATIENCE_SECONDS, 10.0 * PATIENCE_BOOTS)
    assert machine.longest["rare"] <= 2 * turn + 2 * 10


def test_many_models_on_one_gpu_all_get_their_turn() -> None:
    names = [f"m{number}" for number in range(6)]
    machine = Machine(5.0, {name: range(10_000) for name in names})
    machine.run(1500)
    assert {target for _, target in machine.boots} == set(names)
    turn = max(LEAST_PATIENCE_SECONDS, 5.0 * PATIENCE_BOOTS)
    assert all(waited <= len(names) * (turn + 5.0 + 3) for waited in machine.longest.values())


def test_what_is_displaced_was_at_work_for_as_long_as_the_other_had_to_wait() -> None:
    turn = 10.0 * PATIENCE_BOOTS
    busy = held("busy", "n-0", evictable=False, displaceable=True, age_seconds=turn - 1, boot_seconds=10.0)
    waits = need("w", oldest_wait=1000.0, boot_seconds=10.0)
    assert not plan([waits], [node(1)], [busy]).displaced
    decided = plan([waits], [node(1)], [replace(busy, age_seconds=turn + 1)])
    assert list(decided.displaced) == ["busy"]
    assert not decided.evictions
    impatient = replace(waits, oldest_wait=turn - 1)
    assert not plan([impatient], [node(1)], [replace(busy, age_seconds=turn + 1)]).displaced


def test_who_is_out_of_patience_takes_what_idles_before_what_works() -> None:
    idle = held("idle", "n-0", loss=100.0)
    busy = held("busy", "n-1", evictable=False, displaceable=True, loss=0.0)
    decided = plan([need("w", oldest_wait=1000.0)], [node(2)], [idle, busy])
    assert (list(decided.evictions), list(decided.displaced)) == (["idle"], [])


def test_what_is_kept_warm_or_pinned_is_never_displaced() -> None:
    kept = [
        held("minimum", "n-0", evictable=False),
        held("pinned", "n-1", evictable=True, displaceable=True, is_pinned=True),
    ]
    decided = plan([need("w", oldest_wait=10_000.0)], [node(2)], kept)
    assert not decided.displaced
    assert not decided.evictions


def test_the_one_whose_loss_is_least_goes() -> None:
    idle = [held(f"i{number}", f"n-{number}", loss=loss) for number, loss in enumerate((3.0, 1.0, 2.0))]
    assert list(plan([need("w")], [node(3)], idle).evictions) == ["i1"]


def test_two_that_wait_get_a_gpu_each() -> None:
    """One GPU is being freed already: it is the first one's, and for the second another idle one goes."""
    idle = [held("leaving", "n-0", leaving=True, evictable=False), held("idle", "n-1")]
    assert list(plan([need("a")], [node(2)], idle).evictions) == []
    assert list(plan([need("a", 2.0), need("b", 1.0)], [node(2)], idle).evictions) == ["idle"]


def test_a_model_of_several_gpus_gets_them_though_others_need_one_at_a_time() -> None:
    """The free GPU of the node that is being cleared is kept for it."""
    holders = [held("a", "n-0"), held("b", "n-1"), held("c", "n-2", evictable=False, leaving=True)]
    big = need("big", oldest_wait=60.0, gpus=4)
    decided = plan([big, need("small", oldest_wait=1.0)], [node(4)], holders)
    assert decided.evictions.keys() == {"a", "b"}
    assert not decided.assignments
    after = plan([big, need("small", oldest_wait=1.0)], [node(4)], [])
    assert [each.need.target for each in after.assignments] == ["big"]


def test_all_gpus_of_one_instance_are_on_one_node() -> None:
    nodes = [node(2, "a"), node(3, "b")]
    assert plan([need("big", gpus=4)], nodes, []).assignments == []
    [placed] = plan([need("big", gpus=3)], nodes, []).assignments
    assert placed.node_id == "b"
    assert set(placed.gpu_uuids) == {"b-0", "b-1", "b-2"}


def test_where_the_cheapest_set_of_gpus_is_there_they_are_cleared() -> None:
    nodes = [node(2, "a"), node(2, "b")]
    holders = [
        held("a0", "a-0", on="a", loss=1.0),
        held("a1", "a-1", on="a", loss=9.0),
        held("b0", "b-0", on="b", loss=4.0),
        held("b1", "b-1", on="b", loss=4.0),
    ]
    assert plan([need("big", gpus=2)], nodes, holders).evictions.keys() == {"b0", "b1"}


def test_each_gets_its_first_before_anybody_gets_a_second() -> None:
    greedy = replace(need("greedy", oldest_wait=60.0), missing=4)
    decided = plan([greedy, need("modest")], [node(2)], [])
    assert [each.need.target for each in decided.assignments] == ["greedy", "modest"]


def test_what_nobody_waits_for_yet_takes_what_is_free_and_evicts_only_who_is_cheaper_to_lose() -> None:
    foretold = replace(need("f"), waiting=0, worth=0.5)
    assert len(plan([foretold], [node(1)], []).assignments) == 1
    assert plan([foretold], [node(1)], [replace(held("cheap", "n-0"), loss=0.4)]).evictions
    assert not plan([foretold], [node(1)], [replace(held("dear", "n-0"), loss=0.5)]).evictions


def test_what_nobody_makes_room_for_leaves_room_to_who_waits() -> None:
    foretold = replace(need("f"), waiting=0, worth=0.5)
    decided = plan([foretold, need("w")], [node(1)], [replace(held("dear", "n-0"), loss=0.6)])
    assert list(decided.evictions) == ["dear"]


def test_an_instance_on_four_gpus_is_no_dearer_than_four_that_are_as_dear_on_one() -> None:
    wide = replace(held("wide", "n-0"), gpu_uuids=tuple(f"n-{number}" for number in range(4)), loss=1.0)
    narrow = [replace(held(f"narrow-{number}", f"n-{number}"), loss=0.5) for number in range(4, 8)]
    decided = plan([replace(need("big"), gpu_count=4)], [node(8)], [wide, *narrow])
    assert list(decided.evictions) == ["wide"]
