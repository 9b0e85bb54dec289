"""What those who wait are told beside the reason itself: how many are ahead, and for about how long."""

from core.demand import STARTED, Pace, standing

BUSY = "2 of 2 NVIDIA T4 busy; this model needs 1."


def test_a_reason_is_told_with_who_is_ahead_and_for_how_long() -> None:
    assert standing(BUSY, 3, 40.2) == "2 of 2 NVIDIA T4 busy; this model needs 1; 3 predictions ahead; about 40 s."
    assert standing(STARTED, 1, 0.2) == "A container is being started for this model; 1 prediction ahead; about 1 s."
    assert standing(BUSY, 0, None) == BUSY
    assert standing(None, 3, 40.0) is None


def test_long_times_are_told_as_people_say_them() -> None:
    told = [standing("Busy.", 0, seconds) for seconds in (89.0, 120.0, 3000.0, 9000.0)]
    assert told == ["Busy; about 89 s.", "Busy; about 2 min.", "Busy; about 50 min.", "Busy; about 2 h."]


def test_nobody_is_told_a_time_while_no_container_can_come() -> None:
    """Who waits for a cordon to be lifted waits for a person."""
    pace = Pace(slots=0, run_seconds=10.0, boot_seconds=60.0)
    assert pace.estimate(3, "Every node that could run this model is cordoned.") is None
    assert pace.estimate(3, STARTED) == 90.0
    assert Pace(slots=1, run_seconds=10.0, boot_seconds=60.0).estimate(0, BUSY) == 10.0
