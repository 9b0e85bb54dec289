"""Every microsecond of an Instance is in exactly one phase, whatever happens in whatever order."""

from collections import Counter

from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from core.usage.instance_time import Counters
from worker.stopwatch import Stopwatch

WAIT = st.integers(0, 10**12)
HAPPENS = st.sampled_from(["set_up", "ready", "begin", "end", "stop", "read"])


class Clock:
    """In whole microseconds, far from zero, as the clock of a machine that has been up for months."""

    def __init__(self) -> None:
        self.micros = 10**13

    def __call__(self) -> float:
        return self.micros / 1e6


def test_setup_ends_when_it_is_ready_and_it_is_active_while_anything_runs() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.micros += 7
    assert watch.read() == Counters(0, 0, 0)
    watch.set_up()
    clock.micros += 10
    watch.ready()
    clock.micros += 20
    with watch.running():
        clock.micros += 3
        with watch.running():
            clock.micros += 3
        clock.micros += 3
    clock.micros += 1
    assert watch.read() == Counters(10, 21, 9)
    watch.stop()
    clock.micros += 100
    assert watch.read() == Counters(10, 21, 9)


def test_an_adopted_container_goes_on_from_where_it_was_counted_to() -> None:
    clock = Clock()
    watch = Stopwatch(clock, Counters(5, 6, 7))
    watch.ready()
    clock.micros += 10
    assert watch.read() == Counters(5, 16, 7)


@bounds(max_examples=300, deadline=None)
@given(st.lists(st.tuples(HAPPENS, WAIT), max_size=30))
def test_the_phases_sum_up_to_the_time_that_was_counted(schedule: list[tuple[str, int]]) -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    phase, runs, spent, seen = None, [], Counter(), Counters(0, 0, 0)
    for what, wait in schedule:
        match what:
            case "begin":
                runs.append(watch.running())
                runs[-1].__enter__()
            case "end" if runs:
                runs.pop().__exit__(None, None, None)
            case "set_up":
                watch.set_up()
                phase = "setup"
            case "ready":
                watch.ready()
                phase = "serving"
            case "stop":
                watch.stop()
                phase = None
            case "read":
                assert all(now >= before for now, before in zip(watch.read(), seen, strict=True))
                seen = watch.read()
        clock.micros += wait
        spent[("active" if runs else "idle") if phase == "serving" else phase] += wait
    assert watch.read() == Counters(spent["setup"], spent["idle"], spent["active"])
