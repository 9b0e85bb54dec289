"""Where Instances go: no GPU twice, no node beyond its room, only the idle evicted, and every refusal a sentence."""

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.placement import Held, Need, NodeState, Plan, plan

MODELS = ("NVIDIA T4", "NVIDIA H100")
KINDS = ("bundle", "image")


def node(name: str, *gpus: str, room: int = 8, kinds: tuple[str, ...] = ("bundle",), cordoned: bool = False):
    uuids = {f"{name}-{number}": model for number, model in enumerate(gpus)}
    return NodeState(name, name, frozenset(kinds), room, uuids, cordoned)


def need(target: str = "t", missing: int = 1, gpus: int = 0, model: str | None = None, kind: str = "bundle") -> Need:
    return Need(target, f"version of {target}", kind, "sku", missing, 3, 0.0, gpus, model if gpus else None)


def held(id: str, on: str, *uuids: str, target: str = "other", evictable: bool = True, **fields) -> Held:
    return Held(id, on, target, f"version of {target}", uuids, evictable, **{"idle_seconds": 100.0, **fields})


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Need], list[NodeState], list[Held]]:
    nodes = [
        node(
            f"n{number}",
            *draw(st.lists(st.sampled_from(MODELS), max_size=4)),
            room=draw(st.integers(0, 5)),
            kinds=tuple(draw(st.sets(st.sampled_from(KINDS), min_size=1))),
            cordoned=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 4)))
    ]
    instances = []
    for place in nodes:
        free = list(place.gpus)
        for number in range(draw(st.integers(0, place.max_instances))):
            taken = [free.pop() for _ in range(draw(st.integers(0, min(2, len(free)))))]
            leaving = draw(st.booleans())
            instances.append(
                held(
                    f"{place.name}-i{number}",
                    place.name,
                    *taken,
                    target=f"t{draw(st.integers(0, 5))}",
                    evictable=draw(st.booleans()) and not leaving,
                    leaving=leaving,
                    idle_seconds=draw(st.floats(0, 1000)),
                    boot_seconds=draw(st.floats(0, 100)),
                )
            )
    needs = [
        need(
            f"t{number}",
            draw(st.integers(1, 4)),
            draw(st.integers(0, 3)),
            draw(st.sampled_from(MODELS)),
            draw(st.sampled_from(KINDS)),
        )
        for number in range(draw(st.integers(0, 5)))
    ]
    return needs, nodes, instances


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_no_gpu_is_taken_twice_and_no_node_filled_beyond_its_room(world) -> None:
    needs, nodes, instances = world
    decided = plan(needs, nodes, instances)
    uuids = Counter(uuid for taken in (*instances, *decided.assignments) for uuid in taken.gpu_uuids)
    assert not [uuid for uuid, count in uuids.items() if count > 1]
    count = Counter(taken.node_id for taken in (*instances, *decided.assignments))
    assert all(count[place.id] <= place.max_instances for place in nodes)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_what_is_placed_fits_where_it_is_placed(world) -> None:
    needs, nodes, instances = world
    by_id = {place.id: place for place in nodes}
    decided = plan(needs, nodes, instances)
    for assignment in decided.assignments:
        place = by_id[assignment.node_id]
        assert not place.is_cordoned
        assert assignment.need.artifact_kind in place.artifact_kinds
        assert len(assignment.gpu_uuids) == assignment.need.gpu_count
        assert {place.gpus[uuid] for uuid in assignment.gpu_uuids} <= {assignment.need.gpu_model}
    placed = Counter(assignment.need.target for assignment in decided.assignments)
    assert all(placed[wish.target] <= wish.missing for wish in needs)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_only_the_idle_of_others_are_evicted_and_one_at_most_for_each_need(world) -> None:
    needs, nodes, instances = world
    decided = plan(needs, nodes, instances)
    by_id = {instance.id: instance for instance in instances}
    for id in decided.evictions:
        victim = by_id[id]
        assert victim.evictable
        assert not victim.leaving
        assert victim.idle_seconds >= victim.boot_seconds
    assert len(decided.evictions) <= len(decided.refusals)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_whoever_gets_less_than_needed_is_told_why_in_a_sentence(world) -> None:
    needs, nodes, instances = world
    decided = plan(needs, nodes, instances)
    placed = Counter(assignment.need.target for assignment in decided.assignments)
    assert decided.refusals.keys() == {wish.target for wish in needs if placed[wish.target] < wish.missing}
    for reason in (*decided.refusals.values(), *decided.evictions.values()):
        assert reason[0].isalnum()
        assert reason.endswith(".")
        assert "None" not in reason


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_carrying_out_a_plan_leaves_less_to_do(world) -> None:
    """With every evicted and leaving container gone, what was assigned stays and nothing is evicted for nothing."""
    needs, nodes, instances = world
    for _ in range(40):
        decided = plan(needs, nodes, instances)
        if not decided.assignments and not decided.evictions:
            break
        new = [
            held(f"new{len(instances) + n}", a.node_id, *a.gpu_uuids, target=a.need.target, evictable=False)
            for n, a in enumerate(decided.assignments)
        ]
        placed = Counter(assignment.need.target for assignment in decided.assignments)
        instances = [i for i in instances if i.id not in decided.evictions and not i.leaving] + new
        needs = [less(wish, placed[wish.target]) for wish in needs if wish.missing > placed[wish.target]]
    else:
        raise AssertionError("the plan never comes to rest")


def less(wish: Need, placed: int) -> Need:
    return need(wish.target, wish.missing - placed, wish.gpu_count, wish.gpu_model, wish.artifact_kind)


def test_it_packs_where_the_version_is_and_where_least_is_free() -> None:
    near = held("i", "b", target="t", evictable=False)
    assert [a.node_id for a in plan([need()], [node("a"), node("b")], [near]).assignments] == ["b"]
    small = [node("a", room=8), node("b", room=2), node("c", room=8)]
    assert [a.node_id for a in plan([need(missing=3)], small, []).assignments][:2] == ["b", "b"]


def test_it_goes_rather_where_its_containers_did_not_die() -> None:
    near = held("i", "a", target="t", evictable=False)
    nodes = [node("a", MODELS[0], MODELS[0], room=4), node("b", MODELS[0])]
    wish = replace(need(gpus=1, model=MODELS[0]), avoids=frozenset({"a", "a-0"}))
    assert [a.node_id for a in plan([wish], nodes, [near]).assignments] == ["b"]
    assert [a.gpu_uuids for a in plan([wish], nodes[:1], [near]).assignments] == [("a-1",)]
    assert [a.gpu_uuids for a in plan([wish], [node("a", MODELS[0])], []).assignments] == [("a-0",)]
    spread = replace(wish, is_spread=True, deployment_id="d")
    assert [a.node_id for a in plan([spread], nodes, []).assignments] == ["b"]


def test_a_container_that_drains_still_holds_its_gpu() -> None:
    leaving = held("i", "a", "a-0", evictable=False, leaving=True)
    decided = plan([need(gpus=1, model=MODELS[0])], [node("a", MODELS[0])], [leaving])
    assert decided == Plan(refusals={"t": "1 of 1 NVIDIA T4 busy; this model needs 1."})


def test_of_two_idle_ones_the_one_that_is_cheapest_to_lose_goes() -> None:
    dear = held("dear", "a", "a-0", boot_seconds=90.0)
    cheap = held("cheap", "a", "a-1", boot_seconds=2.0)
    decided = plan([need(gpus=1, model=MODELS[0])], [node("a", MODELS[0], MODELS[0])], [dear, cheap])
    assert list(decided.evictions) == ["cheap"]


def test_idle_containers_make_room_for_a_gpu_that_nobody_holds() -> None:
    """A free GPU is of no use on a node whose places are all taken by models that need none."""
    idle = [held(f"i{number}", "a") for number in range(2)]
    decided = plan([need(gpus=1, model=MODELS[0])], [node("a", MODELS[0], room=2)], idle)
    assert len(decided.evictions) == 1
    assert decided.refusals["t"] == "All 2 places for containers are taken."


def test_nothing_is_evicted_for_what_could_never_fit() -> None:
    idle = held("i", "a", "a-0")
    decided = plan([need(gpus=2, model=MODELS[0])], [node("a", MODELS[0]), node("b", MODELS[0])], [idle])
    assert not decided.evictions
    assert decided.refusals["t"] == "No node has a healthy 2 NVIDIA T4, the Hardware sku of this model."


def test_each_refusal_says_what_is_in_the_way() -> None:
    gpu = need(gpus=1, model=MODELS[0])
    cases = [
        ([], need(), "No node is up: start one with `python -m worker node`."),
        ([node("a")], need(kind="image"), "No node runs Docker, which this model needs."),
        ([node("a", cordoned=True)], need(), "Every node that could run this model is cordoned."),
        ([node("a", room=0), node("b", cordoned=True)], need(), "All 0 places for containers are taken."),
        ([node("a", MODELS[1])], gpu, "No node has a healthy NVIDIA T4, the Hardware sku of this model."),
        ([node("a", MODELS[0], room=0)], gpu, "All 0 places for containers are taken."),
    ]
    for nodes, wish, reason in cases:
        assert plan([wish], nodes, []).refusals == {"t": reason}


# --- Deployments ------------------------------------------------------------------------------------------------------


def deployed(wish: Need, limit: int, oldest_wait: float = 0.0, waiting: int = 3) -> Need:
    return replace(wish, deployment_id="d", limit=limit, oldest_wait=oldest_wait, waiting=waiting)


FULL = "The deployment has all 1 containers that its max_instances allows."


@settings(max_examples=100, deadline=None)
@given(worlds(), st.integers(0, 6), st.data())
def test_a_deployment_never_passes_its_most_whatever_its_targets_need(world, limit: int, data: st.DataObject) -> None:
    needs, nodes, instances = world
    needs = [deployed(wish, limit, data.draw(st.floats(0, 100))) for wish in needs]
    instances = [replace(instance, deployment_id=data.draw(st.sampled_from(["d", None]))) for instance in instances]
    decided = plan(needs, nodes, instances)
    have = sum(instance.deployment_id == "d" for instance in instances)
    assert have + len(decided.assignments) <= max(have, limit)
    by_id = {instance.id: instance for instance in instances}
    for id in decided.evictions:
        assert by_id[id].evictable or (by_id[id].deployment_id == "d" and have + len(decided.assignments) >= limit)


def test_within_a_full_deployment_the_place_is_theirs_who_wait_longest() -> None:
    young = held("young", "a", target="new", evictable=False, deployment_id="d", oldest_wait=1.0)
    old = deployed(need("old"), limit=1, oldest_wait=60.0)
    assert plan([old], [node("a")], [young]) == Plan(
        evictions={"young": "Made room for another model, which is waited for."}, refusals={"old": FULL}
    )
    leaving = replace(young, leaving=True)
    assert plan([old], [node("a")], [leaving]) == Plan(refusals={"old": FULL}), "one at a time"
    older = replace(young, oldest_wait=61.0)
    assert plan([old], [node("a")], [older]) == Plan(refusals={"old": FULL})


def test_what_is_to_be_kept_warm_takes_no_place_in_its_own_deployment() -> None:
    other = held("other", "a", target="old", deployment_id="d")
    warm = deployed(need("new"), limit=1, waiting=0)
    assert plan([warm], [node("a")], [other]) == Plan(refusals={"new": FULL})


def test_what_is_to_be_kept_warm_takes_the_place_of_what_idles() -> None:
    idle = held("idle", "a", target="other")
    warm = deployed(need("new"), limit=1, waiting=0)
    assert plan([warm], [node("a", room=1)], [idle]).evictions == {
        "idle": "Made room for a deployment that is kept warm."
    }


def test_in_a_full_deployment_nothing_goes_for_what_fits_nowhere() -> None:
    young = held("young", "a", target="new", deployment_id="d")
    impossible = deployed(need("old", gpus=1, model=MODELS[1]), limit=1, oldest_wait=60.0)
    decided = plan([impossible], [node("a", MODELS[0])], [young])
    assert decided == Plan(refusals={"old": "No node has a healthy NVIDIA H100, the Hardware sku of this model."})


def test_in_a_full_deployment_what_holds_the_gpu_goes_too() -> None:
    young = held("young", "a", "a-0", target="new", deployment_id="d")
    other = held("other", "b", "b-0", evictable=False)
    old = deployed(need("old", gpus=1, model=MODELS[0]), limit=1, oldest_wait=60.0)
    decided = plan([old], [node("a", MODELS[0]), node("b", MODELS[0])], [young, other])
    assert list(decided.evictions) == ["young"]
