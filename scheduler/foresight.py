"""Which targets a rhythm says will be called soon, though they have no Instance now.

Kept in memory by whoever leads: rows tell nothing of a target that nobody waits for and that has no Instance. A leader
that has just begun foresees nothing, and learns it from the next calls.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from scheduler.autoscaling import seconds_to_boot, worth

#: Of one that was called before, by clocks that are not read at the same moment.
_SAME_CALL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Beat:
    """A target, and what its next call was foretold from. Moments are those of the monotonic clock."""

    name: str
    version_id: str
    hardware_sku: str
    boot_seconds: float
    called_at: tuple[float, ...]
    """Its latest calls, newest first."""
    begins_at: float
    """When an Instance for the next call should begin to boot."""
    is_spent: bool = False
    """One was: a beat is worth one try, whatever becomes of it."""

    def worth(self, moment: float) -> float:
        return worth(self.boot_seconds, _ages(self.called_at, moment))


class Foresight:
    def __init__(self) -> None:
        self._beats: dict[str, Beat] = {}

    def learn(
        self, name: str, version_id: str, hardware_sku: str, boot_seconds: float, called_at: tuple[float, ...]
    ) -> None:
        """`called_at`: moments of its latest calls, newest first, one at least."""
        known = self._beats.get(name)
        is_same = known is not None and abs(known.called_at[0] - called_at[0]) < _SAME_CALL_SECONDS
        if is_same and known.boot_seconds == boot_seconds:
            return
        self._beats.pop(name, None)
        left = seconds_to_boot(boot_seconds, _ages(called_at, called_at[0]))
        if left is not None:
            beat = Beat(name, version_id, hardware_sku, boot_seconds, called_at, called_at[0] + left)
            self._beats[name] = replace(beat, is_spent=is_same and known.is_spent)

    def due(self, moment: float) -> list[Beat]:
        """Whose Instance should boot by now. Forgets those that were not called when they should have been."""
        begun = [beat for beat in self._beats.values() if beat.begins_at <= moment]
        for beat in begun:
            if seconds_to_boot(beat.boot_seconds, _ages(beat.called_at, moment)) is None:
                del self._beats[beat.name]
        return [beat for beat in begun if beat.name in self._beats and not beat.is_spent]

    def spend(self, names: Iterable[str]) -> None:
        """They have been given their Instance."""
        for name in names:
            if name in self._beats:
                self._beats[name] = replace(self._beats[name], is_spent=True)


def _ages(called_at: tuple[float, ...], moment: float) -> tuple[float, ...]:
    return tuple([moment - each for each in called_at])
