"""A fleet where everything is taken and somebody waits: whoever goes may go, and nobody else does.

Fleets drawn at large seldom come to an eviction; here nearly every one does.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.placement import Held, Need, NodeState, plan
from scheduler.placement.clearing import LEAST_PATIENCE_SECONDS, PATIENCE_BOOTS

T4 = "NVIDIA T4"
SECONDS = st.one_of(st.floats(0, 60), st.floats(100, 400))


@st.composite
def full_fleets(draw: st.DrawFn) -> tuple[list[Need], list[NodeState], list[Held]]:
    nodes, instances = [], []
    for name in "ab"[: draw(st.integers(1, 2))]:
        uuids = [f"{name}-{number}" for number in range(draw(st.integers(1, 4)))]
        nodes.append(NodeState(name, name, frozenset(["bundle"]), 8, dict.fromkeys(uuids, T4)))
        instances += [draw(holders(uuid, name)) for uuid in uuids]
    needs = draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    return [draw(waiting(f"w{number}", gpus)) for number, gpus in enumerate(needs)], nodes, instances


@st.composite
def holders(draw: st.DrawFn, uuid: str, node: str) -> Held:
    return Held(
        f"i-{uuid}",
        node,
        f"t-{uuid}",
        f"v-{uuid}",
        (uuid,),
        evictable=draw(st.sampled_from([False, False, True])),
        idle_seconds=draw(SECONDS),
        boot_seconds=draw(st.floats(0, 25)),
        leaving=draw(st.sampled_from([False, False, False, True])),
        age_seconds=draw(SECONDS),
        loss=draw(st.floats(0, 5)),
        is_pinned=draw(st.sampled_from([False, False, True])),
        displaceable=draw(st.booleans()),
    )


@st.composite
def waiting(draw: st.DrawFn, target: str, gpus: int) -> Need:
    count, wait, boot = draw(st.integers(0, 2)), draw(SECONDS), draw(st.floats(0, 25))
    return Need(target, f"v-{target}", "bundle", "sku", 1, count, wait, gpus, T4, boot_seconds=boot)


@settings(max_examples=150, deadline=None)
@given(full_fleets())
def test_whoever_goes_may_go(fleet) -> None:
    needs, _, instances = fleet
    by_id = {instance.id: instance for instance in instances}
    decided = plan(*fleet)
    assert not decided.assignments, "a GPU is somebody's until its container is gone"
    for id in (*decided.evictions, *decided.displaced):
        assert not by_id[id].is_pinned
        assert not by_id[id].leaving
        assert by_id[id].age_seconds >= by_id[id].boot_seconds
    assert all(by_id[id].evictable for id in decided.evictions)
    for id in decided.displaced:
        assert by_id[id].displaceable
        assert by_id[id].age_seconds >= _patience(by_id[id].boot_seconds)
    impatient = [need for need in needs if need.waiting and need.oldest_wait > _patience(need.boot_seconds)]
    assert impatient or not decided.displaced


@settings(max_examples=150, deadline=None)
@given(full_fleets())
def test_no_more_go_than_are_asked_for(fleet) -> None:
    needs, _, instances = fleet
    decided = plan(*fleet)
    leaving = sum(instance.leaving for instance in instances)
    going = len(decided.evictions) + len(decided.displaced)
    assert going <= sum(need.gpu_count for need in needs)
    # Where one GPU is asked for and one is being freed, nobody else need go.
    if all(need.gpu_count == 1 for need in needs):
        assert going <= max(0, len(needs) - leaving)


def _patience(boot_seconds: float) -> float:
    return max(LEAST_PATIENCE_SECONDS, boot_seconds * PATIENCE_BOOTS)
