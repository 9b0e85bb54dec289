"""What an operator types about the machines, the containers on them, and what became of a prediction."""

from typing import Annotated

import typer

from cli.becoming import become

nodes = typer.Typer(invoke_without_command=True, help="The machines that run containers. Alone: show them.")
instances = typer.Typer(invoke_without_command=True, help="Containers of models. Alone: show them.")

Node = Annotated[str, typer.Argument(help="Its name, as `millrace nodes` shows it.")]
Instance = Annotated[str, typer.Argument(help="Its id, or the end of it as `millrace instances` shows it.")]
#: Longer than most predictions run, and longer than any does.
_DRAIN_SECONDS, _MOST_SECONDS = 600.0, 30 * 24 * 3600.0
_WITHIN = "Seconds: what still runs then goes back to its queue, or fails if it has said something."
Seconds = Annotated[float, typer.Option("--within", help=_WITHIN, min=0, max=_MOST_SECONDS)]


@nodes.callback()
def list_nodes(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        become("cli.nodes", "list")


@nodes.command("events")
def node_events(name: Node) -> None:
    """Show what happened to it, when, by whom and why."""
    become("cli.nodes", "events", name)


@nodes.command()
def cordon(name: Node) -> None:
    """Give it no new containers; those that are there stay."""
    become("cli.nodes", "cordon", name)


@nodes.command()
def uncordon(name: Node) -> None:
    """Give it containers again, after a cordon or a drain."""
    become("cli.nodes", "uncordon", name)


@nodes.command()
def drain(name: Node, within: Seconds = _DRAIN_SECONDS) -> None:
    """Empty it: what it runs may finish, and others take over."""
    become("cli.nodes", "drain", name, str(within))


@nodes.command()
def label(
    name: Node, labels: Annotated[list[str], typer.Argument(help="zone=a sets one, zone= takes it away.")]
) -> None:
    """Label it, so that models can ask for such machines; see `millrace place`."""
    become("cli.nodes", "label", name, *labels)


@nodes.command()
def share(
    name: Node, on: Annotated[bool, typer.Option("--on/--off", help="Or each model has its GPUs to itself.")] = True
) -> None:
    """Let models that fit together share its GPUs, by the memory they were seen to use."""
    become("cli.nodes", "share", name, "on" if on else "")


@instances.callback()
def list_instances(
    context: typer.Context,
    ended: Annotated[float, typer.Option(help="With those that ended within so many hours.", min=0)] = 0.0,
) -> None:
    if context.invoked_subcommand is None:
        become("cli.instances", "list", str(ended * 3600.0))


@instances.command()
def logs(id: Instance) -> None:
    """Print what it said while it last booted."""
    become("cli.instances", "logs", id)


@instances.command("events")
def instance_events(id: Instance) -> None:
    """Show what happened to it, when, by whom and why."""
    become("cli.instances", "events", id)


@instances.command("drain")
def drain_instance(
    id: Instance,
    within: Seconds = _DRAIN_SECONDS,
    reason: Annotated[str, typer.Option(help="Why, for whoever wonders.")] = "",
) -> None:
    """Let it finish what it runs, and go. Where it is still needed, another one comes up."""
    become("cli.instances", "drain", id, str(within), reason)


def explain(prediction: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Tell everything that happened to a prediction: when, by whom and why."""
    become("cli.explain", prediction)


def place(
    model: Annotated[str, typer.Argument(help="owner/name, or owner/name:version. Default: its latest version.")],
    label: Annotated[list[str] | None, typer.Option(help="Only on nodes with zone=a; zone= takes it back.")] = None,
    pin: Annotated[bool | None, typer.Option("--pin/--no-pin", help="Whether it makes room for nobody.")] = None,
    share: Annotated[
        bool | None, typer.Option("--share-gpu/--no-share-gpu", help="Whether it may share a GPU with others.")
    ] = None,
) -> None:
    """Say where a model may run, and beside whom; later versions take it over. Without options: show it."""
    become("cli.placing", model, _answer(pin), _answer(share), *(label or ()))


def _answer(asked: bool | None) -> str:
    return {True: "yes", False: "no", None: ""}[asked]


def add_to(commands: typer.Typer) -> None:
    commands.add_typer(nodes, name="nodes")
    commands.add_typer(instances, name="instances")
    for command in (explain, place):
        commands.command()(command)
