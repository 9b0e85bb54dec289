"""`millrace nodes …`: the machines that run containers, what holds their GPUs, and what an operator asks of them."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from cli import showing
from cli.errors import Refusal
from cli.operating import Work, run
from core import events, upkeep
from core.database import Transaction
from core.errors import NotFound
from core.fleet import UP
from core.people import audit
from core.reports import fleet
from core.reports.fleet import NodeView
from core.resources import Resources

#: A clock that is off by more shows in what containers and their logs say.
_CLOCK_SECONDS = 1.0
_STYLES = {"up": "green", "late": "yellow", "lost": "bold red", "stopped": "dim"}


def list_all() -> Work:
    async def work(resources: Resources) -> None:
        async with resources.database.autocommit() as tx:
            views = await fleet.nodes(tx)
        if not views:
            raise Refusal("No node has ever reported: start one with `millrace up` or `millrace join`.")
        showing.console().print(page(views))

    return work


def page(views: Sequence[NodeView]) -> Group:
    """Machines, and under them their devices."""
    devices = _devices(views)
    return Group(_machines(views), *(["", devices] if devices.row_count else []))


def _machines(views: Sequence[NodeView]) -> Table:
    right = {"justify": "right"}
    table = showing.table(
        Column("node", overflow="fold"),
        showing.whole("state"),
        *(showing.whole(name, **right) for name in ("containers", "artifacts", "clock", "seen")),
    )
    for view in views:
        row = view.row
        seen = "never" if row.reported_at is None else f"{showing.duration(row.reported_seconds_ago)} ago"
        count = f"{len(view.instances)} of {row.max_instances}"
        table.add_row(_name(row), _state(view), count, str(len(row.artifacts)), _clock(row), seen)
    return table


def _name(row: Any) -> Text:
    shares = ["shares its GPUs"] if row.shares_gpus else []
    notes = [*(f"{key}={value}" for key, value in sorted(row.labels.items())), *shares]
    return Text(row.name).append("".join(f"\n  {note}" for note in notes), "dim")


def _state(view: NodeView) -> Text:
    row, text = view.row, Text(view.state, _STYLES[view.state])
    if row.is_cordoned:
        text.append("\ncordoned", "yellow")
    if row.drain_deadline_at is not None:
        left = row.drain_seconds_left
        text.append(f"\ndraining, {showing.duration(left)}" if left > 0 else "\ndrained", "yellow")
    return text


def _clock(row: Any) -> Text:
    offset = row.clock_offset_seconds
    if offset is None:
        return Text("–", "dim")
    if abs(offset) <= _CLOCK_SECONDS:
        return Text("right")
    return Text(f"{'+' if offset > 0 else '-'}{showing.duration(abs(offset))}", "yellow")


def _devices(views: Sequence[NodeView]) -> Table:
    right = {"justify": "right"}
    table = showing.table(
        showing.whole("node"),
        showing.whole("GPU", **right),
        showing.whole("device"),
        showing.whole("GiB used", **right),
        "held by",
    )
    # What a machine last said of its devices says nothing once it is gone.
    for view in (view for view in views if view.state in (UP, fleet.LATE)):
        for index, gpu in enumerate(view.row.gpus):
            table.add_row(view.row.name, str(index), gpu["name"], _memory(gpu), _holders(view, gpu))
    return table


def _memory(gpu: dict[str, Any]) -> str:
    size = showing.gib(gpu["memory_bytes"])
    used = gpu.get("used_bytes")
    return f"of {size}" if used is None else f"{showing.gib(used)} of {size}"


def _holders(view: NodeView, gpu: dict[str, Any]) -> Text:
    lines = [Text(f"{row.model} {showing.short(row.id)}") for row in view.holding(gpu["uuid"])]
    for process in gpu.get("foreign") or ():
        size = f", {showing.gib(process['memory_bytes'])} GiB" if process.get("memory_bytes") else ""
        lines.append(Text(f"process {process['pid']} ({process.get('name') or '?'}){size}: not ours", "yellow"))
    if not gpu["healthy"]:
        lines.append(Text(gpu["reason"] or "Not healthy.", "bold red"))
    elif gpu.get("throttled"):
        degrees = f", {gpu['temperature']} °C" if gpu.get("temperature") is not None else ""
        lines.append(Text(f"throttled{degrees}", "yellow"))
    return Text("\n").join(lines or [Text("free", "green")])


# --- what an operator asks of them ------------------------------------------------------------------------------------


def tell(name: str) -> Work:
    async def work(resources: Resources) -> None:
        async with resources.database.autocommit() as tx:
            told = await events.of(tx, events.node(name))
        if not told:
            raise Refusal(f"Nothing is told of a node {name}; `millrace nodes` shows which there are.")
        showing.console().print(showing.told(told))

    return work


def cordon(name: str) -> Work:
    return _changing(
        lambda tx, actor: upkeep.cordon(tx, name, True, actor), f"{name} gets no new containers; those there stay."
    )


def uncordon(name: str) -> Work:
    """After a drain as well."""

    async def change(tx: Transaction, actor: str) -> None:
        await upkeep.cordon(tx, name, False, actor)
        await upkeep.undrain_node(tx, name, actor)

    return _changing(change, f"{name} gets new containers again.")


def drain(name: str, seconds: str) -> Work:
    return _changing(
        lambda tx, actor: upkeep.drain_node(tx, name, float(seconds), actor),
        f"{name} gets no new containers, and is empty within {showing.duration(float(seconds))}. What still runs then "
        f"goes back to its queue, or fails if it has said something.\n"
        f"`millrace nodes uncordon {name}` opens it again.",
    )


def share(name: str, on: str) -> Work:
    said = "Models that fit together may share" if on else "Each model has to itself"
    return _changing(lambda tx, actor: upkeep.share(tx, name, bool(on), actor), f"{said} the GPUs of {name}.")


def label(name: str, *pairs: str) -> Work:
    wanted = parsed(pairs)
    return _changing(lambda tx, actor: upkeep.label(tx, name, wanted, actor), f"The labels of {name} are set.")


def parsed(pairs: Sequence[str]) -> dict[str, str | None]:
    """`zone=a` sets, `zone=` takes away. Raises `Refusal`."""
    wanted: dict[str, str | None] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise Refusal(f"{pair!r} is no label: write zone=a, or zone= to take it away.")
        wanted[key] = value or None
    return wanted


def _changing(change: Callable[[Transaction, str], Awaitable[Any]], done: str) -> Work:
    async def work(resources: Resources) -> None:
        try:
            async with resources.database.transaction() as tx:
                await change(tx, audit.operator().name)
        except NotFound as error:
            raise Refusal(f"{error} `millrace nodes` shows which there are.") from None
        sys.stdout.write(f"{done}\n")

    return work


_VERBS: dict[str, Callable[..., Work]] = {
    "list": list_all,
    "events": tell,
    "cordon": cordon,
    "uncordon": uncordon,
    "drain": drain,
    "share": share,
    "label": label,
}


def main() -> int:
    return run(_VERBS[sys.argv[1]], *sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
