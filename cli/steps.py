"""How a start is shown: one line per step with its time, and on a terminal what it is waiting for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from core.clock import monotonic

_NAME_WIDTH = 14


@dataclass(slots=True)
class Step:
    """`detail` stands beside the name once the step is done."""

    name: str
    _console: Console
    _status: Status
    detail: str = ""

    def say(self, text: str) -> None:
        """What takes so long: beside the spinner, or as a line of its own where there is none."""
        if self._console.is_terminal:
            self._status.update(f"{self.name}: {escape(text)}")
        else:
            self._console.print(f"  {text}", markup=False, highlight=False)


@contextmanager
def step(console: Console, name: str) -> Iterator[Step]:
    started = monotonic()
    with console.status(name) as status:
        current = Step(name, console, status)
        yield current
    mark = "+" if console.options.ascii_only else "✓"
    seconds = f"{monotonic() - started:.2f} s"
    console.print(f"[green]{mark}[/] {name:<{_NAME_WIDTH}} [dim]{seconds:>8}[/]  {escape(current.detail)}".rstrip())
