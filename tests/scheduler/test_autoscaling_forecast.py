"""The next call: foretold in a rhythm, else guessed from the silences; and what losing an Instance costs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.autoscaling import Bounds, Demand, Supply, loss, seconds_to_boot, wanted, worth
from scheduler.forecast import rate, rhythm, seconds_to_next

HOURLY = tuple(600.0 + 3600.0 * beat for beat in range(6))
ages = st.lists(st.floats(0, 100_000), max_size=32).map(lambda found: tuple(sorted(found)))
seconds = st.floats(0, 100_000)


def test_equal_distances_are_a_rhythm() -> None:
    found = rhythm(HOURLY)
    assert found is not None
    assert (found.period, found.due_in) == (3600.0, 3000.0)


def test_calls_that_come_together_are_one_beat() -> None:
    together = tuple(sorted(age - late for age in HOURLY for late in (0.0, 5.0, 20.0)))
    found = rhythm(together)
    assert found is not None
    assert found.period == pytest.approx(3600.0, rel=0.01)


def test_a_rhythm_ends_when_its_call_is_late() -> None:
    assert rhythm(tuple(age + 3000.0 + 700.0 for age in HOURLY)) is not None
    assert rhythm(tuple(age + 3000.0 + 730.0 for age in HOURLY)) is None


def test_uneven_distances_and_few_calls_are_none() -> None:
    assert rhythm((0.0, 100.0, 900.0, 1000.0, 4000.0, 4100.0, 9000.0)) is None
    assert rhythm(HOURLY[:4]) is None
    assert rhythm(()) is None


@settings(max_examples=200, deadline=None)
@given(ages, seconds, seconds)
def test_whatever_the_past_the_answers_are_positive_numbers(arrivals, boot: float, idle: float) -> None:
    assert 1.0 <= seconds_to_next(arrivals) < 1e6
    assert 0.0 < loss(boot, idle, arrivals) < 1e6
    assert 0.0 <= rate(arrivals) <= len(arrivals)


@settings(max_examples=200, deadline=None)
@given(ages, st.floats(2, 100_000), seconds, st.floats(1, 1000))
def test_a_longer_boot_is_never_cheaper_to_lose(arrivals, boot: float, idle: float, longer: float) -> None:
    assert loss(boot + longer, idle, arrivals) >= loss(boot, idle, arrivals)


def test_without_a_past_the_longest_idle_is_the_cheapest_to_lose() -> None:
    assert loss(10.0, 5000.0, ()) < loss(10.0, 1000.0, ())


def test_who_is_called_more_is_dearer_to_lose() -> None:
    often, seldom = (60.0, 150.0, 260.0, 340.0), (60.0, 4000.0, 9000.0, 20_000.0)
    assert loss(10.0, 55.0, often) > loss(10.0, 55.0, seldom)


def test_who_is_about_to_be_called_is_dear_to_lose_and_who_has_just_been_is_not() -> None:
    due, called = (3590.0, *(3590.0 + 3600.0 * n for n in range(1, 6))), tuple(10.0 + 3600.0 * n for n in range(6))
    assert loss(10.0, 3500.0, due) > 100 * loss(10.0, 5.0, called)


def test_an_instance_that_took_none_of_the_latest_calls_is_cheaper_than_the_one_that_did() -> None:
    arrivals = (10.0, 70.0, 130.0, 190.0)
    assert loss(10.0, 300.0, arrivals) < loss(10.0, 5.0, arrivals)


def test_a_boot_for_a_foretold_call_begins_when_it_would_be_ready_in_time() -> None:
    in_a_minute = tuple(3540.0 + 3600.0 * beat for beat in range(6))
    assert seconds_to_boot(40.0, in_a_minute) == pytest.approx(10.0)
    assert seconds_to_boot(60.0, in_a_minute) < 0.0
    assert seconds_to_boot(60.0, (1.0, 2.0)) is None


def test_a_boot_for_a_foretold_call_is_worth_more_than_what_idles_with_no_call_in_sight() -> None:
    in_a_minute = tuple(3540.0 + 3600.0 * beat for beat in range(6))
    assert worth(60.0, in_a_minute) > loss(60.0, 600.0, (600.0, 4000.0, 9000.0))
    assert worth(60.0, in_a_minute) < loss(60.0, 1.0, (1.0, 11.0, 21.0, 31.0, 41.0))


def test_an_instance_that_is_about_to_be_called_is_kept_beyond_its_idle_time_and_the_others_go() -> None:
    bounds = Bounds(0, 8, idle_seconds=300.0)
    due = tuple(3540.0 + 3600.0 * beat for beat in range(6))
    idle = (3500.0, 3500.0)
    assert wanted(Demand(0, 0, 0.0, 1, arrivals=due), Supply(0, 2, 20.0, idle), bounds) == 1
    assert wanted(Demand(0, 0, 0.0, 1, arrivals=HOURLY), Supply(0, 2, 20.0, idle), bounds) == 0


def test_the_rate_is_counted_over_a_minute_or_as_far_back_as_calls_are_remembered() -> None:
    assert rate(()) == 0.0
    assert rate((1.0, 20.0, 59.0, 61.0)) == pytest.approx(3 / 60)
    assert rate(tuple(age / 10 for age in range(1, 33))) == pytest.approx(32 / 3.2)
