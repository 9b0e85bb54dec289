"""What a person reads who gets no Instance, or not where they thought: each a sentence that can be acted on."""

from dataclasses import replace

import pytest

from scheduler.placement import Device, Foreign, Held, Need, NodeState, plan

GB = 10**9
H100 = "NVIDIA H100"
CLOSED = "Every node that could run this model is "


def node(name: str = "a", *, foreign: tuple[Foreign, ...] = (), fault: str | None = None, count: int = 1, **fields):
    devices = {f"{name}-{n}": Device(n, H100, 80 * GB, foreign, fault) for n in range(count)}
    gpus = {} if fault else dict.fromkeys(devices, H100)
    labels = frozenset({("node", name), *fields.pop("labels", ())})
    return NodeState(name, name, frozenset(["bundle"]), 8, gpus, labels=labels, devices=devices, **fields)


def need(**fields) -> Need:
    return Need("t", "v", "bundle", "h100", 1, 1, 1.0, **{"gpu_count": 1, "gpu_model": H100, **fields})


def resident(uuid: str, **fields) -> Held:
    return Held(f"i-{uuid}", uuid.split("-")[0], "other", "w", (uuid,), False, **fields)


def refusal(wish: Need, nodes: list[NodeState], instances: list[Held] = ()) -> str:
    return plan([wish], nodes, list(instances)).refusals["t"]


def test_a_gpu_that_a_foreign_process_holds_is_named_with_the_process() -> None:
    held = (Foreign(4242, 21 * GB),)
    assert refusal(need(), [node(foreign=held)]) == (
        "1 of 1 NVIDIA H100 busy; this model needs 1. GPU 0 holds 21 GB for process 4242, which is not ours."
    )
    both = (Foreign(7, 6 * GB), Foreign(4242, 21 * GB))
    assert "GPU 0 holds 27 GB for processes 4242, 7, which are not ours." in refusal(need(), [node(foreign=both)])
    assert "GPU 0 is used for process 7, which is not ours." in refusal(need(), [node(foreign=(Foreign(7, None),))])


def test_of_several_nodes_the_one_is_named_and_of_many_gpus_a_few() -> None:
    nodes = [node("a", foreign=(Foreign(1, 9 * GB),), count=3), node("b")]
    said = refusal(need(), nodes, [resident("b-0")])
    assert said.startswith("4 of 4 NVIDIA H100 busy; this model needs 1. GPU 0 of a holds 9 GB for process 1,")
    assert said.endswith("So it is with 1 more.")


def test_a_display_server_keeps_nobody_from_a_gpu() -> None:
    assert plan([need()], [node(foreign=(Foreign(1, 300 * 10**6),))], []).assignments


def test_an_unhealthy_gpu_gets_nothing_and_says_why() -> None:
    assert refusal(need(), [node(fault="94 °C: it is too hot.")]) == (
        "No node has a healthy NVIDIA H100, the Hardware h100 of this model. "
        "GPU 0 gets no new containers: 94 °C: it is too hot."
    )


@pytest.mark.parametrize(
    ("closed", "word"),
    [({"is_cordoned": True}, "cordoned."), ({"is_draining": True}, "being drained.")],
)
def test_a_closed_node_gets_nothing(closed: dict[str, bool], word: str) -> None:
    assert refusal(need(), [node(**closed)]) == CLOSED + word


def test_cordoned_and_drained_nodes_are_told_apart() -> None:
    assert refusal(need(), [node("a", is_cordoned=True), node("b", is_draining=True)]) == (
        CLOSED + "cordoned or being drained."
    )


def test_labels_that_no_node_has_are_named() -> None:
    wish = need(node_labels=frozenset({("zone", "eu"), ("tier", "fast")}))
    assert refusal(wish, [node(labels=(("zone", "eu"),))]) == (
        "No node that could run this model has the labels that it asks for: tier=fast, zone=eu."
    )
    there = need(node_labels=frozenset({("node", "far")}))
    assert refusal(there, [node()]) == "Node far, the only one that this model may run on, is not up."


def test_a_model_runs_where_its_labels_are() -> None:
    nodes = [node("a"), node("b", labels=(("zone", "eu"),))]
    for wanted in (("zone", "eu"), ("node", "b")):
        [placed] = plan([need(node_labels=frozenset({wanted}))], nodes, []).assignments
        assert placed.node_id == "b"


def test_a_mig_slice_is_a_device_of_its_own() -> None:
    profile = f"{H100} MIG 1g.10gb"
    slices = {f"MIG-{n}": Device(n, profile, 10 * GB) for n in range(2)}
    cut = NodeState("a", "a", frozenset(["bundle"]), 8, dict.fromkeys(slices, profile), devices=slices)
    decided = plan([wish_of(profile, 3)], [cut], [])
    assert sorted(each.gpu_uuids for each in decided.assignments) == [("MIG-0",), ("MIG-1",)]
    assert decided.refusals == {"t": f"2 of 2 {profile} busy; this model needs 1."}
    assert "No node has a healthy NVIDIA H100" in refusal(need(), [cut])


# --- where there is a choice ------------------------------------------------------------------------------------------


def wish_of(model: str, missing: int) -> Need:
    return replace(need(gpu_model=model), missing=missing)


def measured(peak: int, **fields) -> Need:
    return need(peak_bytes=peak * GB, **{"shares_gpu": True, **fields})


def sharer(uuid: str, reserved: int) -> Held:
    return resident(uuid, shares_gpu=True, reserved_bytes=reserved * GB)


def test_two_that_fit_together_share_a_gpu_where_both_may() -> None:
    both = plan([measured(30), replace(measured(40), target="u")], [node()], [])
    assert [(each.gpu_uuids, each.shares_gpu, each.reserved_bytes) for each in both.assignments] == [
        (("a-0",), True, 30 * GB),
        (("a-0",), True, 40 * GB),
    ]


def test_sharing_is_off_unless_the_version_or_the_node_says_so() -> None:
    alone = measured(30, shares_gpu=False)
    assert "busy" in refusal(alone, [node()], [sharer("a-0", 10)])
    assert plan([alone], [node(shares_gpus=True)], [sharer("a-0", 10)]).assignments[0].shares_gpu
    assert not plan([alone], [node()], []).assignments[0].shares_gpu


def test_who_was_never_measured_gets_a_gpu_of_its_own() -> None:
    unmeasured = need(shares_gpu=True)
    assert "busy" in refusal(unmeasured, [node()], [sharer("a-0", 1)])
    [placed] = plan([unmeasured], [node()], []).assignments
    assert (placed.shares_gpu, placed.reserved_bytes) == (False, None)


def test_a_margin_of_the_memory_stays_free() -> None:
    assert plan([measured(36)], [node()], [sharer("a-0", 40)]).assignments
    assert "busy" in refusal(measured(37), [node()], [sharer("a-0", 40)])


def test_foreign_memory_counts_where_a_gpu_is_shared() -> None:
    taken = node(foreign=(Foreign(1, 30 * GB),))
    assert plan([measured(46)], [taken], []).assignments[0].shares_gpu
    assert "which is not ours" in refusal(measured(47), [taken])


def test_who_grew_beyond_what_it_was_given_leaves_less() -> None:
    assert "busy" in refusal(measured(10), [node()], [sharer("a-0", 79)])


def test_one_sharer_goes_where_that_is_enough() -> None:
    idle = [replace(sharer("a-0", 30), id=id, evictable=True, age_seconds=99.0, loss=loss)
            for id, loss in (("dear", 2.0), ("cheap", 1.0))]  # fmt: skip
    assert list(plan([measured(40)], [node()], idle).evictions) == ["cheap"]
    assert plan([need()], [node()], idle).evictions.keys() == {"dear", "cheap"}, "a whole GPU needs both gone"


def test_it_goes_where_its_artifact_is() -> None:
    nodes = [node("a"), node("b", artifacts=frozenset(["image"])), node("c")]
    [placed] = plan([need(artifact="image")], nodes, []).assignments
    assert placed.node_id == "b"


def test_it_fills_the_node_that_is_fullest() -> None:
    nodes = [node("a", count=4), node("b", count=4)]
    busy = [resident("b-0"), resident("b-1")]
    assert [each.node_id for each in plan([wish_of(H100, 3)], nodes, busy).assignments] == ["b", "b", "a"]


def test_a_deployment_of_several_is_spread_over_nodes() -> None:
    nodes = [node(name, count=2, artifacts=frozenset(["image"] if name == "a" else [])) for name in "abc"]
    wish = replace(wish_of(H100, 4), deployment_id="d", limit=9, is_spread=True, artifact="image")
    assert [each.node_id for each in plan([wish], nodes, []).assignments][0] == "a", "its artifact is there"
    assert sorted(each.node_id for each in plan([wish], nodes, []).assignments) in (
        ["a", "a", "b", "c"],
        ["a", "b", "b", "c"],
        ["a", "b", "c", "c"],
    )
    one = replace(resident("a-0"), deployment_id="d")
    assert plan([replace(wish, missing=1)], nodes, [one]).assignments[0].node_id != "a"


def test_a_device_that_two_nodes_report_is_given_once() -> None:
    """Two node processes on one machine see the same GPUs."""
    nodes = [node("a"), replace(node("a"), id="b", name="b")]
    decided = plan([wish_of(H100, 2)], nodes, [])
    assert [each.gpu_uuids for each in decided.assignments] == [("a-0",)]
