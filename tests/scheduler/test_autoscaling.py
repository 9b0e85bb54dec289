"""How many Instances: at once from zero, from there as many as the queue needs, within the bounds; only the idle go."""

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.autoscaling import Bounds, Demand, Supply, idle_limit, share, wanted

BOUNDS = Bounds(0, 8, idle_seconds=300.0)
seconds = st.floats(0, 100_000)


@st.composite
def situations(draw: st.DrawFn) -> tuple[Demand, Supply, Bounds]:
    ready, booting = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    idle = draw(st.lists(seconds, max_size=ready))
    waiting, running = draw(st.integers(0, 10_000)), draw(st.integers(0, 200))
    demand = Demand(
        waiting,
        running,
        draw(seconds) if waiting else 0.0,
        draw(st.integers(1, 32)),
        draw(st.none() | st.floats(0, 10_000)),
        tuple(sorted(draw(st.lists(seconds, max_size=32)))),
    )
    minimum = draw(st.integers(0, 5))
    bounds = Bounds(minimum, draw(st.integers(minimum, 30)), draw(seconds))
    return demand, Supply(booting, ready, draw(st.floats(0, 600)), tuple(idle)), bounds


@settings(max_examples=100, deadline=None)
@given(situations())
def test_the_bounds_hold_whatever_the_demand(situation: tuple[Demand, Supply, Bounds]) -> None:
    demand, supply, bounds = situation
    assert bounds.minimum <= wanted(demand, supply, bounds) <= bounds.maximum


@settings(max_examples=100, deadline=None)
@given(situations())
def test_within_the_bounds_nobody_who_waits_loses_an_instance_and_only_the_idle_go(
    situation: tuple[Demand, Supply, Bounds],
) -> None:
    demand, supply, bounds = situation
    current = supply.booting + supply.ready
    count = wanted(demand, supply, Bounds(0, 10**6, bounds.idle_seconds))
    if demand.waiting:
        assert count >= max(current, 1)
    else:
        assert current - len(supply.idle_seconds) <= count <= current


@settings(max_examples=100, deadline=None)
@given(situations())
def test_growth_is_never_beyond_one_slot_for_each_call_and_by_doubling_at_most_in_the_dark(
    situation: tuple[Demand, Supply, Bounds],
) -> None:
    demand, supply, bounds = situation
    current = supply.booting + supply.ready
    count = wanted(demand, supply, Bounds(0, 10**6, bounds.idle_seconds))
    if count > max(current, 1):
        assert demand.run_seconds is not None or count <= 2 * current
        assert count <= math.ceil((demand.waiting + demand.running) / demand.slots)


def test_the_first_that_waits_gets_an_instance_at_once() -> None:
    assert wanted(Demand(1, 0, 0.0, slots=1), Supply(0, 0, 60.0), BOUNDS) == 1


def test_while_one_boots_no_other_is_asked_for() -> None:
    assert wanted(Demand(1000, 0, 500.0, slots=1), Supply(1, 0, 60.0), BOUNDS) == 1


def test_a_queue_that_empties_faster_than_a_boot_needs_no_other_instance() -> None:
    supply = Supply(0, 1, boot_seconds=60.0)
    assert wanted(Demand(10, 1, oldest_wait=59.0, slots=1), supply, BOUNDS) == 1
    assert wanted(Demand(10, 1, oldest_wait=61.0, slots=1), supply, BOUNDS) == 2


@settings(max_examples=100, deadline=None)
@given(situations(), st.integers(0, 1000), st.floats(0, 600))
def test_more_who_wait_or_run_for_longer_never_get_fewer_and_a_longer_boot_never_gets_more(
    situation: tuple[Demand, Supply, Bounds], more: int, longer: float
) -> None:
    demand, supply, bounds = situation
    if not demand.waiting or demand.run_seconds is None:
        return
    count = wanted(demand, supply, bounds)
    assert wanted(replace(demand, waiting=demand.waiting + more), supply, bounds) >= count
    assert wanted(replace(demand, run_seconds=demand.run_seconds + longer), supply, bounds) >= count
    assert wanted(demand, replace(supply, boot_seconds=supply.boot_seconds + longer), bounds) <= count


def test_where_run_times_are_known_a_queue_gets_what_it_needs_at_once() -> None:
    burst = Demand(100, 0, 0.0, slots=1, run_seconds=10.0)
    assert wanted(burst, Supply(0, 0, boot_seconds=100.0), Bounds(0, 50, 300.0)) == 10
    assert wanted(burst, Supply(10, 0, boot_seconds=100.0), Bounds(0, 50, 300.0)) == 10
    assert wanted(burst, Supply(0, 0, boot_seconds=2.0), Bounds(0, 50, 300.0)) == 50


def test_where_run_times_are_known_a_queue_that_empties_before_a_boot_ends_gets_no_other_instance() -> None:
    assert wanted(Demand(10, 1, 500.0, slots=1, run_seconds=5.0), Supply(0, 1, boot_seconds=60.0), BOUNDS) == 1
    assert wanted(Demand(1, 1, 0.0, slots=1, run_seconds=600.0), Supply(0, 1, boot_seconds=10.0), BOUNDS) == 2


def test_calls_that_keep_coming_get_as_many_instances_as_they_keep_busy() -> None:
    arrivals = tuple(float(age) for age in range(32))
    demand = Demand(5, 1, 1.0, slots=1, run_seconds=5.0, arrivals=arrivals)
    assert wanted(demand, Supply(0, 1, boot_seconds=60.0), BOUNDS) == 6


def test_what_runs_on_an_instance_that_leaves_asks_for_no_new_one() -> None:
    assert wanted(Demand(0, 3, 0.0, slots=1), Supply(0, 0, 1.0), BOUNDS) == 0


def test_what_takes_long_to_boot_is_kept_for_longer() -> None:
    assert idle_limit(BOUNDS, boot_seconds=1.0) == 300.0
    assert idle_limit(BOUNDS, boot_seconds=120.0) == 1200.0
    assert wanted(Demand(0, 0, 0.0, 1), Supply(0, 1, 120.0, (1000.0,)), BOUNDS) == 1
    assert wanted(Demand(0, 0, 0.0, 1), Supply(0, 1, 120.0, (1201.0,)), BOUNDS) == 0


# --- targets of one Deployment ----------------------------------------------------------------------------------------

counts = st.lists(st.integers(0, 30), max_size=4)


@settings(max_examples=200, deadline=None)
@given(situations(), counts)
def test_the_targets_of_a_deployment_keep_to_its_bounds_together(situation, earlier: list[int]) -> None:
    bounds = situation[2]
    shares = share(bounds, earlier)
    assert len(shares) == len(earlier) + 1
    assert all(0 <= one.minimum <= one.maximum <= bounds.maximum for one in shares)
    kept = [min(count, one.maximum) for count, one in zip(earlier, shares, strict=False)]
    assert sum(kept) + shares[-1].maximum == bounds.maximum


def test_alone_the_current_release_has_all_the_bounds() -> None:
    assert share(BOUNDS, []) == [BOUNDS]


def test_what_waits_for_an_earlier_release_keeps_its_instances_and_the_least_gives_way() -> None:
    earlier, current = share(Bounds(2, 3, 300.0), [2])
    assert (earlier.minimum, earlier.maximum) == (0, 3)
    assert (current.minimum, current.maximum) == (1, 1)
    assert share(Bounds(1, 3, 300.0), [5])[-1] == Bounds(0, 0, 300.0)


def test_what_is_kept_warm_needs_nobody_who_waits() -> None:
    assert wanted(Demand(0, 0, 0.0, 1), Supply(0, 0, 60.0), Bounds(2, 3, 300.0)) == 2
    assert wanted(Demand(0, 0, 0.0, 1), Supply(0, 2, 1.0, (9999.0, 9999.0)), Bounds(2, 3, 300.0)) == 2
