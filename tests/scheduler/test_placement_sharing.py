"""GPUs that several Instances share: whatever they need, whoever came before and whoever else is there, no byte of
their memory is promised twice. Few GPUs and many who fit just so, or just not."""

from collections import defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.placement import Assignment, Device, Foreign, Held, Need, NodeState, plan
from scheduler.placement.board import MARGIN

GB = 10**9
T4, SIZE = "NVIDIA T4", 16 * GB
#: What may be given of one: with the margin that stays free.
USABLE = int(SIZE * (1 - MARGIN))
#: Some fit beside each other to the byte, some miss by one.
PEAKS = st.sampled_from([GB, USABLE // 3, USABLE // 2, USABLE // 2 + 1, USABLE - GB, USABLE, USABLE + 1, SIZE])
FOREIGN = st.sampled_from([(), (), (GB // 2,), (GB,), (USABLE // 2,), (SIZE,), (None,)])

many = settings(max_examples=100, deadline=None)


@st.composite
def nodes_with_few_gpus(draw: st.DrawFn) -> list[NodeState]:
    return [_node(name, draw) for name in "ab"[: draw(st.integers(1, 2))]]


def _node(name: str, draw: st.DrawFn) -> NodeState:
    devices = {}
    for number in range(draw(st.integers(1, 2))):
        foreign = tuple(Foreign(100 + index, use) for index, use in enumerate(draw(FOREIGN)))
        devices[f"{name}-{number}"] = Device(number, T4, SIZE, foreign)
    gpus = dict.fromkeys(devices, T4)
    return NodeState(
        name, name, frozenset(["bundle"]), 8, gpus, shares_gpus=draw(st.sampled_from([True, True, False])),
        devices=devices,
    )  # fmt: skip


@st.composite
def wishes(draw: st.DrawFn, prefix: str) -> list[Need]:
    return [
        Need(
            f"{prefix}{number}",
            f"v-{prefix}{number}",
            "bundle",
            "sku",
            missing=draw(st.integers(1, 3)),
            waiting=1,
            oldest_wait=draw(st.floats(0, 300)),
            gpu_count=draw(st.sampled_from([1, 1, 1, 2])),
            gpu_model=T4,
            boot_seconds=draw(st.floats(0, 60)),
            shares_gpu=draw(st.sampled_from([True, True, False])),
            peak_bytes=draw(st.one_of(PEAKS, PEAKS, st.none())),
        )
        for number in range(draw(st.integers(1, 5)))
    ]


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Need], list[NodeState], list[Held]]:
    nodes = draw(nodes_with_few_gpus())
    held = [
        _held(f"i{number}", each, draw) for number, each in enumerate(plan(draw(wishes("r")), nodes, []).assignments)
    ]
    return draw(wishes("t")), nodes, held


def _held(id: str, placed: Assignment, draw: st.DrawFn) -> Held:
    # Idle and old enough, so that who must go is decided by memory alone.
    return Held(
        id, placed.node_id, placed.need.target, placed.need.version_id, placed.gpu_uuids,
        evictable=draw(st.sampled_from([True, True, False])), idle_seconds=100.0, age_seconds=100.0,
        loss=draw(st.floats(0, 5)), leaving=draw(st.sampled_from([False, False, True])),
        shares_gpu=placed.shares_gpu, reserved_bytes=placed.reserved_bytes,
    )  # fmt: skip


@many
@given(fleets())
def test_no_byte_is_promised_twice_and_none_that_somebody_else_uses(fleet) -> None:
    needs, nodes, instances = fleet
    decided = plan(needs, nodes, instances)
    _assert_within_memory(nodes, [*instances, *decided.assignments])


@many
@given(fleets())
def test_pass_after_pass_those_who_waited_get_what_was_freed_for_them_and_no_more(fleet) -> None:
    """Who is to go goes, who was placed stays, and whoever still waits asks again."""
    needs, nodes, instances = fleet
    for number in range(20):
        decided = plan(needs, nodes, instances)
        _assert_within_memory(nodes, [*instances, *decided.assignments])
        if not decided.assignments and not decided.evictions and not decided.displaced:
            return
        going = {*decided.evictions, *decided.displaced}
        new = [_placed(f"n{number}-{index}", each) for index, each in enumerate(decided.assignments)]
        instances = [each for each in instances if each.id not in going and not each.leaving] + new
        needs = [_less(need, sum(each.need.target == need.target for each in decided.assignments)) for need in needs]
        needs = [need for need in needs if need.missing]
    raise AssertionError("the plan never comes to rest")


@many
@given(fleets())
def test_who_has_a_gpu_for_itself_shares_it_with_nobody(fleet) -> None:
    needs, nodes, instances = fleet
    for holders in _holders([*instances, *plan(needs, nodes, instances).assignments]).values():
        assert len(holders) == 1 or all(each.shares_gpu for each in holders)


def _holders(takers: list[Held | Assignment]) -> dict[str, list[Held | Assignment]]:
    found = defaultdict(list)
    for taker in takers:
        for uuid in taker.gpu_uuids:
            found[uuid].append(taker)
    return found


def _assert_within_memory(nodes: list[NodeState], takers: list[Held | Assignment]) -> None:
    foreign = {
        uuid: [process.memory_bytes for process in device.foreign]
        for node in nodes
        for uuid, device in node.devices.items()
    }
    for uuid, holders in _holders(takers).items():
        assert None not in foreign[uuid], "nobody knows how much of it is left"
        if any(each.shares_gpu for each in holders):
            assert sum(each.reserved_bytes for each in holders) + sum(foreign[uuid]) <= USABLE


def _placed(id: str, placed: Assignment) -> Held:
    return Held(
        id, placed.node_id, placed.need.target, placed.need.version_id, placed.gpu_uuids, evictable=False,
        shares_gpu=placed.shares_gpu, reserved_bytes=placed.reserved_bytes,
    )  # fmt: skip


def _less(need: Need, placed: int) -> Need:
    return replace(need, missing=need.missing - placed)
