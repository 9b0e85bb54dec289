"""What a plan never does, whatever there is: no GPU twice, no more of its memory than it has, nobody at work ended."""

from collections import Counter, defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.placement import Assignment, Device, Foreign, Held, Need, NodeState, Plan, plan
from scheduler.placement.board import MARGIN

GB = 10**9
MODELS = ("NVIDIA T4", "NVIDIA H100")
SIZES = {"NVIDIA T4": 16 * GB, "NVIDIA H100": 80 * GB}
PLACES = ("a", "b", "c")


@st.composite
def devices(draw: st.DrawFn, name: str) -> dict[str, Device]:
    found = {}
    for number in range(draw(st.integers(0, 4))):
        model = draw(st.sampled_from(MODELS))
        uses = draw(st.lists(st.one_of(st.none(), st.integers(0, 20 * GB)), max_size=2))
        fault = draw(st.sampled_from([None, None, None, "ECC errors"]))
        foreign = tuple(Foreign(100 + index, use) for index, use in enumerate(uses))
        found[f"{name}-{number}"] = Device(number, model, SIZES[model], foreign, fault)
    return found


@st.composite
def nodes_of_all_kinds(draw: st.DrawFn) -> list[NodeState]:
    nodes = []
    for name in PLACES[: draw(st.integers(1, 3))]:
        found = draw(devices(name))
        nodes.append(
            NodeState(
                name,
                name,
                frozenset(["bundle"]),
                draw(st.integers(0, 6)),
                {uuid: device.model for uuid, device in found.items() if not device.fault},
                is_cordoned=draw(st.sampled_from([False, False, True])),
                is_draining=draw(st.sampled_from([False, False, True])),
                labels=frozenset({("node", name), *draw(st.sampled_from([(), (("gpu", "fast"),)]))}),
                artifacts=frozenset(draw(st.sets(st.sampled_from(["x", "y"])))),
                shares_gpus=draw(st.booleans()),
                devices=found,
            )
        )
    return nodes


@st.composite
def wishes(draw: st.DrawFn) -> list[Need]:
    return [
        Need(
            f"t{number}",
            f"v{draw(st.integers(0, 3))}",
            "bundle",
            "sku",
            missing=draw(st.integers(1, 3)),
            waiting=draw(st.integers(0, 3)),
            oldest_wait=draw(st.floats(0, 300)),
            gpu_count=draw(st.integers(0, 3)),
            gpu_model=draw(st.sampled_from(MODELS)),
            boot_seconds=draw(st.floats(0, 60)),
            artifact=draw(st.sampled_from([None, "x", "y", "z"])),
            node_labels=frozenset(draw(st.sampled_from([(), (("gpu", "fast"),), (("node", "b"),)]))),
            shares_gpu=draw(st.booleans()),
            peak_bytes=draw(st.one_of(st.none(), st.integers(1, 90 * GB))),
            deployment_id=draw(st.sampled_from([None, "d"])),
            limit=None,
            is_spread=draw(st.booleans()),
        )
        for number in range(draw(st.integers(1, 5)))
    ]


@st.composite
def residents(draw: st.DrawFn, nodes: list[NodeState]) -> list[Held]:
    """Put there by an earlier plan, so that they are as they may be."""
    found = plan(draw(wishes()), nodes, []).assignments
    return [
        Held(
            f"i{number}",
            each.node_id,
            f"t{draw(st.integers(0, 7))}",
            each.need.version_id,
            each.gpu_uuids,
            evictable=draw(st.booleans()),
            idle_seconds=draw(st.floats(0, 300)),
            boot_seconds=draw(st.floats(0, 60)),
            leaving=draw(st.sampled_from([False, False, True])),
            deployment_id=each.need.deployment_id,
            age_seconds=draw(st.floats(0, 600)),
            loss=draw(st.floats(0, 5)),
            is_pinned=draw(st.sampled_from([False, False, True])),
            displaceable=draw(st.booleans()),
            shares_gpu=each.shares_gpu,
            reserved_bytes=each.reserved_bytes,
        )
        for number, each in enumerate(found)
    ]


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Need], list[NodeState], list[Held]]:
    nodes = draw(nodes_of_all_kinds())
    return draw(wishes()), nodes, draw(residents(nodes))


many = settings(max_examples=150, deadline=None)


def holders(instances: list[Held], decided: Plan) -> dict[str, list[Held | Assignment]]:
    found = defaultdict(list)
    for each in (*instances, *decided.assignments):
        for uuid in each.gpu_uuids:
            found[uuid].append(each)
    return found


@many
@given(fleets())
def test_a_gpu_is_shared_only_by_those_who_all_may_and_within_its_memory(fleet) -> None:
    needs, nodes, instances = fleet
    by_uuid = {uuid: device for node in nodes for uuid, device in node.devices.items()}
    for uuid, both in holders(instances, plan(needs, nodes, instances)).items():
        if len(both) > 1 or both[0].shares_gpu:
            assert all(each.shares_gpu for each in both)
            foreign = sum(process.memory_bytes for process in by_uuid[uuid].foreign)
            reserved = sum(each.reserved_bytes for each in both)
            assert reserved + foreign <= by_uuid[uuid].memory_bytes * (1 - MARGIN)


@many
@given(fleets())
def test_only_who_is_measured_and_allowed_shares(fleet) -> None:
    needs, nodes, instances = fleet
    by_id = {node.id: node for node in nodes}
    for each in plan(needs, nodes, instances).assignments:
        assert each.shares_gpu == (each.reserved_bytes is not None)
        if each.shares_gpu:
            assert each.need.shares_gpu or by_id[each.node_id].shares_gpus
            assert each.reserved_bytes == each.need.peak_bytes
            assert each.need.gpu_count == 1


@many
@given(fleets())
def test_nothing_goes_to_what_is_closed_unhealthy_unlabelled_or_held_by_others(fleet) -> None:
    needs, nodes, instances = fleet
    by_id = {node.id: node for node in nodes}
    decided = plan(needs, nodes, instances)
    for each in decided.assignments:
        node = by_id[each.node_id]
        assert not node.is_cordoned
        assert not node.is_draining
        assert each.need.node_labels <= node.labels
        assert len(set(each.gpu_uuids)) == each.need.gpu_count
        for uuid in each.gpu_uuids:
            device = node.devices[uuid]
            assert device.fault is None
            assert device.model == each.need.gpu_model
            uses = [process.memory_bytes for process in device.foreign]
            assert None not in uses
            assert each.shares_gpu or sum(uses) <= device.memory_bytes * MARGIN
    room = Counter(each.node_id for each in (*instances, *decided.assignments))
    assert all(room[node.id] <= node.max_instances for node in nodes)


@many
@given(fleets())
def test_nobody_goes_who_works_is_pinned_or_younger_than_its_boot(fleet) -> None:
    needs, nodes, instances = fleet
    by_id = {instance.id: instance for instance in instances}
    decided = plan(needs, nodes, instances)
    for id in (*decided.evictions, *decided.displaced):
        victim = by_id[id]
        assert not victim.is_pinned
        assert not victim.leaving
        assert victim.age_seconds >= victim.boot_seconds
        assert victim.evictable or (id in decided.displaced and victim.displaceable)
    assert not decided.evictions.keys() & decided.displaced.keys()
    patient = [need for need in needs if need.waiting and need.oldest_wait > 20]
    assert patient or not decided.displaced


@many
@given(fleets())
def test_whoever_goes_makes_room_for_a_need_that_was_refused(fleet) -> None:
    """Nothing is evicted for nothing: with those gone who were to go, somebody who got less than needed gets more."""
    needs, nodes, instances = fleet
    decided = plan(needs, nodes, instances)
    going = decided.evictions.keys() | decided.displaced.keys()
    if not going:
        return
    placed = [
        Held(f"new{n}", each.node_id, each.need.target, each.need.version_id, each.gpu_uuids, False,
             shares_gpu=each.shares_gpu, reserved_bytes=each.reserved_bytes)
        for n, each in enumerate(decided.assignments)
    ]  # fmt: skip
    left = [each for each in instances if each.id not in going and not each.leaving] + placed
    counts = Counter(each.need.target for each in decided.assignments)
    still = [replace(need, missing=need.missing - counts[need.target]) for need in needs]
    assert plan([need for need in still if need.missing], nodes, left).assignments


@many
@given(fleets())
def test_every_refusal_and_eviction_is_said_in_sentences(fleet) -> None:
    decided = plan(*fleet)
    for reason in (*decided.refusals.values(), *decided.evictions.values(), *decided.displaced.values()):
        assert reason[0].isalnum()
        assert reason.endswith(".")
        assert "None" not in reason
