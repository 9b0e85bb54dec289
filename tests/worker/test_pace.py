"""Runs are quick once several in a row were, and one that is not says otherwise for as long."""

from worker.pace import QUICK_SECONDS, RUNS, Pace


def test_a_few_quick_runs_are_not_enough() -> None:
    pace = Pace()
    for _ in range(RUNS - 1):
        pace.note(QUICK_SECONDS / 2)
        assert not pace.is_quick
    pace.note(QUICK_SECONDS / 2)
    assert pace.is_quick


def test_a_long_one_counts_until_as_many_quick_ones_have_come_after_it() -> None:
    pace = Pace()
    for _ in range(RUNS):
        pace.note(QUICK_SECONDS / 2)
    pace.note(QUICK_SECONDS * 2)
    for _ in range(RUNS - 1):
        assert not pace.is_quick
        pace.note(QUICK_SECONDS / 2)
    assert not pace.is_quick
    pace.note(QUICK_SECONDS / 2)
    assert pace.is_quick
