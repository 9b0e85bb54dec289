"""Whether the runs of an Instance are so short that the pause between two of them counts. Pure."""

from collections import deque

#: Between two runs pass some milliseconds: of a second they are nothing.
QUICK_SECONDS = 0.25
#: So many in a row, and the next one will hardly take longer.
RUNS = 8


class Pace:
    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=RUNS)

    def note(self, seconds: float) -> None:
        """One has ended that took so long."""
        self._latest.append(seconds)

    @property
    def is_quick(self) -> bool:
        return len(self._latest) == RUNS and max(self._latest) <= QUICK_SECONDS
