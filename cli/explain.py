"""`millrace explain <prediction>`: everything that happened to it, when, by whom and why."""

import sys
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text
from sqlalchemy import Row

from cli import showing
from cli.errors import Refusal
from cli.operating import Work, operate
from core import predictions, timeline
from core.clock import now
from core.resources import Resources
from core.timeline import Entry

_STYLES = {
    **dict.fromkeys(("succeeded", "ready"), "green"),
    **dict.fromkeys(("failed", "lost"), "bold red"),
    **dict.fromkeys(("canceled", "aborted", "draining"), "yellow"),
    "processing": "cyan",
}


def explain(id: str) -> Work:
    async def work(resources: Resources) -> None:
        async with resources.database.autocommit() as tx:
            row = await predictions.find(tx, id)
            if row is None:
                raise Refusal(f"There is no prediction {id}.")
            entries = await timeline.of(tx, row, sees_all=True)
        showing.console().print(page(row, entries))

    return work


def page(row: Row, entries: Sequence[Entry]) -> Group:
    head = Text(f"{row.id}  ").append(row.status, _STYLES.get(row.status, "bold"))
    took = showing.duration(((row.completed_at or now()) - row.created_at).total_seconds())
    head.append(f", {took} after it was created" if row.completed_at else f", created {took} ago", "dim")
    what = Text(f"{row.model}:{row.version_id[:12]}", "dim")
    return Group(head, what, "", _told(row, entries))


def _told(row: Row, entries: Sequence[Entry]) -> Table:
    table = showing.table(
        showing.whole(f"{row.created_at:%Y-%m-%d} UTC"), showing.whole("after", justify="right"), "what, by whom, why"
    )
    for entry in entries:
        after = f"{(entry.at - row.created_at).total_seconds():+.2f} s"
        table.add_row(f"{entry.at:%H:%M:%S.%f}"[:-3], Text(after, "dim"), _entry(entry))
    return table


def _entry(entry: Entry) -> Text:
    """Of the prediction itself in bold; of what it waited for, with its name."""
    is_own = entry.subject == "prediction"
    text = Text()
    if not is_own:
        kind, _, id = entry.subject.partition(":")
        text.append(f"{kind} {showing.short(id)}".rstrip(), "dim").append("  ")
    if entry.becomes:
        text.append(f"{entry.was} → " if entry.was else "", "dim")
        style = _STYLES.get(entry.becomes, "")
        text.append(entry.becomes, f"bold {style}" if is_own else style)
        text.append("  ")
    text.append(f"by {entry.actor.removeprefix('account:')}", "dim italic")
    if entry.reason:
        text.append(f"\n{entry.reason}")
    return text


def main() -> int:
    return operate(explain(*sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
