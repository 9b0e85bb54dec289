"""How tables of the command line look: at what width, and how times, bytes and ids are written."""

import sys
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import Row

# In a pipe there is no width to fit into: whoever reads it there wants whole lines.
_PIPE_COLUMNS = 1000
_SHORT = 8
_GIB = 1024**3
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def console() -> Console:
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)


def show(answer: RenderableType) -> None:
    """A sentence as one line, however narrow the terminal: it may be copied."""
    console().print(answer, soft_wrap=isinstance(answer, str))


def table(*columns: Column | str) -> Table:
    # A pipe has no second line: what would be on one stays with the rest.
    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def checklist() -> Table:
    """A sign, a name and a sentence for each."""
    return Table(Column(width=1), Column(no_wrap=True), Column(), box=None, pad_edge=False, show_header=False)


def whole(name: str, **more: str) -> Column:
    """Never broken: an id, a number."""
    return Column(name, no_wrap=True, **more)  # type: ignore[arg-type]


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `2 h`: as much as matters."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{max(0.0, seconds):.1f} s"


def gib(bytes: int) -> str:
    return f"{bytes / _GIB:.1f}"


def short(id: str) -> str:
    """Its end: ids that were made one after another begin alike."""
    return id[-_SHORT:]


def labels(pairs: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(pairs.items()))


def moves(was: str | None, becomes: str | None) -> str:
    return f"{was} → {becomes}" if was and becomes else becomes or ""


def told(events: Sequence[Row]) -> Table:
    """Events of one node, or of one container."""
    shown = table(whole("when (UTC)"), whole("state"), whole("by"), "why")
    for event in events:
        state = Text(moves(event.was, event.becomes))
        shown.add_row(f"{event.at:%m-%d %H:%M:%S}", state, event.actor, Text(event.reason or ""))
    return shown
