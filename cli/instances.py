"""`millrace instances …`: containers, what they do, how they came up, and what their last boot said."""

import sys
from collections.abc import Callable, Sequence

from rich.table import Column, Table
from rich.text import Text
from sqlalchemy import Row

from cli import showing
from cli.errors import Refusal
from cli.operating import Work, run
from core import events, upkeep
from core.errors import Conflict, NotFound
from core.lifecycle import InstanceStatus
from core.people import audit
from core.reports import fleet
from core.reports.fleet import InstanceView
from core.resources import Resources

_STYLES = {"pending": "dim", "starting": "cyan", "ready": "green", "draining": "yellow", "failed": "bold red"}
_PHASES = ("pull", "create", "boot", "setup")
#: What it does while a phase is not over, which comes before the others.
_DOING = {"pull": "getting its artifact", "create": "making its container", "boot": "booting", "setup": "in its setup"}
_SHOWN_RUNS = 2
#: A phase that took less is not worth its place.
_TOLD_SECONDS = 0.05


def list_all(ended_seconds: str) -> Work:
    async def work(resources: Resources) -> None:
        async with resources.database.autocommit() as tx:
            views = await fleet.instances(tx, float(ended_seconds))
        if not views:
            raise Refusal("There are no containers: a prediction, or a deployment with a minimum, brings one up.")
        showing.console().print(page(views))

    return work


def page(views: Sequence[InstanceView]) -> Table:
    whole = [showing.whole(name) for name in ("id", "status", "node")]
    folded = Column("model", overflow="fold"), Column("GPU", overflow="fold"), Column("what it does", ratio=1)
    table = showing.table(whole[0], folded[0], *whole[1:], *folded[1:])
    for view in views:
        row = view.row
        status = Text(row.status, _STYLES.get(row.status, "dim")).append(f"\n{_since(row)}", "dim")
        model = Text(row.model or "–").append(f"\n{row.version_id[:12]}", "dim")
        table.add_row(showing.short(row.id), model, status, row.node, _gpus(row), _doing(view))
    return table


def _since(row: Row) -> str:
    """How old it is; of one that is gone, how long ago it went."""
    if row.ended_seconds_ago is None:
        return showing.duration(row.age_seconds)
    return f"{showing.duration(row.ended_seconds_ago)} ago"


def _gpus(row: Row) -> str:
    """By their numbers on the node, as `millrace nodes` shows them."""
    numbers = {gpu["uuid"]: str(index) for index, gpu in enumerate(row.node_gpus)}
    return ",".join(numbers.get(uuid, "?") for uuid in row.gpu_uuids) or "–"


def _doing(view: InstanceView) -> Text:
    row = view.row
    lines = [line for line in (_work(view), _boot(row)) if line]
    if row.reason:
        leaving = "" if row.ended_at is not None or row.is_wanted else "leaves: "
        style = "red" if row.status == InstanceStatus.FAILED else "yellow" if leaving else "dim"
        lines.append(Text(f"{leaving}{row.reason}", style))
    return Text("\n").join(lines)


def _work(view: InstanceView) -> Text | None:
    if view.predictions:
        ids = [showing.short(id) for id in view.predictions[:_SHOWN_RUNS]]
        more = len(view.predictions) - len(ids)
        return Text(f"runs {', '.join(ids)}" + (f" and {more} more" if more else ""))
    if view.idle_seconds is not None:
        return Text(f"idle {showing.duration(view.idle_seconds)}", "dim")
    if view.row.status == InstanceStatus.STARTING:
        phase = next((name for name in _PHASES if getattr(view.row, f"{name}_seconds") is None), "setup")
        return Text(_DOING[phase], "cyan")
    return None


def _boot(row: Row) -> Text | None:
    phases = [(name, getattr(row, f"{name}_seconds")) for name in _PHASES]
    told = [f"{name} {seconds:.1f}s" for name, seconds in phases if seconds is not None and seconds >= _TOLD_SECONDS]
    return Text(", ".join(told), "dim") if told else None


# --- one of them ------------------------------------------------------------------------------------------------------


def logs(id: str) -> Work:
    async def work(resources: Resources) -> None:
        row = await _found(resources, id)
        if not row.setup_logs:
            raise Refusal(f"Instance {row.id} of {row.model} has not said anything yet; it is {row.status}.")
        sys.stdout.write(row.setup_logs if row.setup_logs.endswith("\n") else f"{row.setup_logs}\n")

    return work


def tell(id: str) -> Work:
    async def work(resources: Resources) -> None:
        row = await _found(resources, id)
        async with resources.database.autocommit() as tx:
            told = await events.of(tx, events.instance(row.id))
        console = showing.console()
        console.print(Text(f"Instance {row.id} of {row.model}, on {row.node}\n"), soft_wrap=True)
        console.print(showing.told(told))

    return work


def drain(id: str, seconds: str, reason: str) -> Work:
    async def work(resources: Resources) -> None:
        row = await _found(resources, id)
        actor = audit.operator().name
        try:
            async with resources.database.transaction() as tx:
                said = reason or "An operator let it go."
                await upkeep.drain_instance(tx, row.id, float(seconds), said, actor)
        except Conflict as error:
            raise Refusal(str(error)) from None
        within = showing.duration(float(seconds))
        sys.stdout.write(f"Instance {row.id} of {row.model} takes nothing new, and is gone within {within}.\n")

    return work


async def _found(resources: Resources, id: str) -> Row:
    """Raises `Refusal`."""
    async with resources.database.autocommit() as tx:
        try:
            return await fleet.instance(tx, id)
        except (NotFound, Conflict) as error:
            raise Refusal(f"{error} `millrace instances` shows those that are there.") from None


_VERBS: dict[str, Callable[..., Work]] = {"list": list_all, "logs": logs, "events": tell, "drain": drain}


def main() -> int:
    return run(_VERBS[sys.argv[1]], *sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
