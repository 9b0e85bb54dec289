"""The command `millrace`. What fails says so in one sentence on stderr."""

import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from cli import checks, fleet_commands
from cli.becoming import become as _replace_with
from cli.errors import Refusal
from cli.up import up as run_up
from core import health as signs
from core.settings import get_settings, process_environment

commands = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
token = typer.Typer(no_args_is_help=True, help="Tokens that clients show to the api.")
commands.add_typer(token, name="token")
join_token = typer.Typer(no_args_is_help=True, help="Tokens with which other machines join as nodes.")
commands.add_typer(join_token, name="join-token")
account = typer.Typer(no_args_is_help=True, help="Accounts, past the api.")
commands.add_typer(account, name="account")
billing = typer.Typer(no_args_is_help=True, help="Money: wallets, what moves them, and prices. Amounts are dollars.")
commands.add_typer(billing, name="billing")
audit = typer.Typer(no_args_is_help=True, help="The log of who did what, to be read and proven.")
commands.add_typer(audit, name="audit")
login = typer.Typer(no_args_is_help=True, help="People who may open the pages, by email and password.")
commands.add_typer(login, name="login")


@commands.callback()
def millrace() -> None:
    """A self-hosted Replicate: run Cog models on your own GPUs, behind the Replicate API."""


@commands.command()
def up() -> None:
    """Start everything on this machine; Ctrl-C stops it."""
    asyncio.run(run_up(get_settings(), Console(highlight=False)))


@commands.command()
def restart() -> None:
    """Load Millrace's code anew, after an update: a running `millrace up` restarts its processes one after the other.

    What runs goes on: the node takes its containers and their predictions along, and the api is away for a moment.
    PostgreSQL and Redis stay as they are. Where an update changes the database, stop `up` and start it again instead.
    """
    pid = checks.tell_to_restart(get_settings().data.expanduser().absolute())
    typer.echo(f"Told process {pid}; it says there how it goes.")


@commands.command()
def setup() -> None:
    """Bring the database up to date and publish the models that come along; safe to repeat."""
    _replace_with("cli.setup")


@commands.command()
def health(process: Annotated[str, typer.Argument(help="api, scheduler, node, webhooks or jobs.")]) -> None:
    """Tell whether a process gives signs of life, for health checks."""
    age = signs.age_seconds(get_settings(), process)
    if not signs.is_alive(get_settings(), process):
        seen = "has not been seen" if age is None else f"was last seen {age:.0f} s ago"
        raise Refusal(f"{process} {seen}; look at its log.")
    typer.echo(f"{process} is alive.")


@commands.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Without the proof of the books.")] = False,
) -> None:
    """Examine the installation: say what is wrong, with what, and what to do; exit with 1 if anything is."""
    _replace_with("cli.doctor", *(["json"] if json else []), *(["quick"] if quick else []))


Account = Annotated[str, typer.Option(help="The account that the token speaks for.")]


@token.command()
def create(
    account: Account = "admin",
    name: Annotated[str, typer.Option(help="What the token is for, to tell it from others.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, run, write, billing or admin; repeatable. Default: all."),
    ] = None,
    expires: Annotated[str, typer.Option(help="How long it is valid, like 12h or 90d. Default: until revoked.")] = "",
) -> None:
    """Make a token and print it; it is shown this once."""
    _replace_with("cli.tokens", "create", account, name, expires, *(scope or ()))


@token.command("list")
def list_tokens(account: Account = "admin") -> None:
    """Show the tokens of an account: what they may do, until when, and when they were last used."""
    _replace_with("cli.tokens", "list", account)


@token.command()
def revoke(
    id: Annotated[str, typer.Argument(help="As `millrace token list` shows it.")], account: Account = "admin"
) -> None:
    """Revoke a token; within 2 seconds nobody is let in by it."""
    _replace_with("cli.tokens", "revoke", account, id)


@commands.command()
def join(
    token: Annotated[str, typer.Argument(help="What `millrace join-token create` printed on the other machine.")],
) -> None:
    """Work as a node of the installation that made this token, until told to stop; later on without the token."""
    settings = get_settings()
    checks.linux()
    checks.writable(settings.data)
    # Whoever reads along is a person, unless something else has been asked for.
    shown = {"MILLRACE_LOG_JSON": "false"} if sys.stderr.isatty() else {}
    environment = {**shown, **process_environment(), "MILLRACE_JOIN": token}
    os.execve(sys.executable, [sys.executable, "-m", "worker", "node"], environment)


@join_token.command("create")
def create_join_token(
    name: Annotated[str, typer.Option(help="What it is for, to tell it from others.")] = "",
    expires: Annotated[str, typer.Option(help="How long machines may join with it, like 2h or 7d.")] = "24h",
    uses: Annotated[int, typer.Option(help="How many machines may join with it.", min=1, max=10_000)] = 1,
    address: Annotated[str, typer.Option(help="host:port by which they reach this machine. Default: found out.")] = "",
) -> None:
    """Make a join token and print it; it is shown this once."""
    _replace_with("cli.joining", "create", name, expires, str(uses), address)


@join_token.command("list")
def list_join_tokens() -> None:
    """Show the join tokens there are, and how often each was used."""
    _replace_with("cli.joining", "list")


@join_token.command("revoke")
def revoke_join_token(id: Annotated[str, typer.Argument(help="As `millrace join-token list` shows it.")]) -> None:
    """Let nobody join with it any more. Who has joined stays."""
    _replace_with("cli.joining", "revoke", id)


@commands.command("joined")
def list_joined() -> None:
    """Show which nodes have joined, from where, and how long their certificates last."""
    _replace_with("cli.joining", "joined")


@commands.command()
def expel(node: Annotated[str, typer.Argument(help="Its name, as `millrace joined` shows it.")]) -> None:
    """Let a node that has joined in no more, and cut its connections."""
    _replace_with("cli.joining", "expel", node)


@account.command("create")
def create_account(
    username: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    name: Annotated[str, typer.Option(help="As it is shown; default: the username.")] = "",
    type: Annotated[str, typer.Option(help="user or organization.")] = "user",
) -> None:
    """Make an account with a wallet, on the terms that the settings have for new ones."""
    _replace_with("cli.accounts", "create", username, name, type)


@account.command("list")
def list_accounts() -> None:
    """Show the accounts and what they have."""
    _replace_with("cli.accounts", "list")


@account.command("limit")
def limit_account(
    name: Annotated[str, typer.Argument(help="Its username.")],
    running: Annotated[str, typer.Option(help="A number; `any`: no limit; `default`: what the server has for all.")],
) -> None:
    """Set how many predictions of an account run at once; the others wait."""
    _replace_with("cli.accounts", "limit", name, running)


@account.command("delete")
def delete_account(
    name: Annotated[str, typer.Argument(help="Its username.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete an account: nobody speaks for it any more; what it used and paid stays on record."""
    _replace_with("cli.accounts", "delete", name, "yes" if yes else "")


@audit.command("export")
def export_audit(
    format: Annotated[str, typer.Option(help="jsonl or csv.")] = "jsonl",
    account: Annotated[str, typer.Option(help="Only what touched this account.")] = "",
    action: Annotated[str, typer.Option(help="How the action begins, like `token.`.")] = "",
    since: Annotated[str, typer.Option(help="A day or moment, in UTC: 2026-01-31.")] = "",
    until: Annotated[str, typer.Option(help="A day or moment before which it ends.")] = "",
) -> None:
    """Write the audit log to stdout, the oldest first."""
    _replace_with("cli.audit", "export", format, account, action, since, until)


@audit.command("verify")
def verify_audit(
    head: Annotated[
        str, typer.Option(help="A head that this command printed before: up to it nothing may change.")
    ] = "",
) -> None:
    """Prove that no event was changed, removed or put between; and print the head of the chain."""
    _replace_with("cli.audit", "verify", head)


Username = Annotated[str, typer.Argument(help="The account's username.")]
Dollars = Annotated[str, typer.Argument(help="Dollars, like 12.50.")]
Reason = Annotated[str, typer.Option(help="Why: whoever looks at the bill will ask.")]
Expires = Annotated[str, typer.Option(help="A day or moment, in UTC: what is left then is taken away.")]
Priority = Annotated[int | None, typer.Option(help="The lowest is used first.", min=0, max=1000)]
Begins = Annotated[str, typer.Option("--from", help="A day or moment to come, in UTC. Default: now.")]


@billing.command()
def balance(account: Username) -> None:
    """Show what an account has, what is held, and how it pays."""
    _replace_with("cli.billing", "balance", account)


@billing.command("top-up")
def top_up(
    account: Username, amount: Dollars, reason: Reason, expires: Expires = "", priority: Priority = None
) -> None:
    """Put money into a wallet that was paid outside of this server."""
    _replace_with("cli.billing", "top-up", account, amount, reason, expires, _text(priority))


@billing.command()
def promote(
    account: Username, amount: Dollars, reason: Reason, expires: Expires = "", priority: Priority = None
) -> None:
    """Give an account credit, which is used before what it paid."""
    _replace_with("cli.billing", "promote", account, amount, reason, expires, _text(priority))


@billing.command()
def adjust(
    account: Username,
    amount: Dollars,
    reason: Reason,
    owe: Annotated[bool, typer.Option("--owe", help="Even where it is not there any more; then it is owed.")] = False,
) -> None:
    """Take money out of a wallet: a slip put right, or a payment that went back."""
    _replace_with("cli.billing", "adjust", account, amount, reason, "owe" if owe else "")


@billing.command()
def refund(
    prediction: Annotated[str, typer.Argument(help="Its id.")],
    reason: Reason,
    amount: Annotated[str, typer.Argument(help="Dollars. Default: all of it.")] = "",
) -> None:
    """Give back what a prediction was charged."""
    _replace_with("cli.billing", "refund", prediction, amount, reason)


@billing.command()
def terms(
    account: Username,
    limit: Annotated[str, typer.Option(help="What it may owe: 0 is prepaid, `none` without limit.")] = "",
    when_empty: Annotated[str, typer.Option(help="stop or finish: what becomes of what runs then.")] = "",
    low_balance: Annotated[str, typer.Option(help="Below this its owner is told; `none`: never.")] = "",
) -> None:
    """Set how an account pays; what is not named stays as it is."""
    _replace_with("cli.billing", "terms", account, limit, when_empty, low_balance)


@billing.command("prices")
def list_prices(subject: Annotated[str, typer.Argument(help="A hardware or `owner/name`. Default: all.")] = "") -> None:
    """Show every price there is, was and will be."""
    _replace_with("cli.billing", "prices", subject)


@billing.command()
def price(
    subject: Annotated[str, typer.Argument(help="SKU of a hardware, or `owner/name` of a model.")],
    amount: Annotated[str, typer.Argument(help="Dollars a second, or a unit; `none`: no more.")],
    metric: Annotated[str, typer.Option(help="What a model counts, like image_count.")] = "",
    account: Annotated[str, typer.Option(help="For this account alone. Default: for everybody.")] = "",
    free: Annotated[int, typer.Option(help="So many units a month cost nothing.", min=0)] = 0,
    step: Annotated[list[str] | None, typer.Option(help="Beyond so many: 1000:0.5; repeatable.")] = None,
    begins: Begins = "",
    reason: Annotated[str, typer.Option(help="For the book.")] = "",
) -> None:
    """Set a price, from now on or from a day to come. What has started keeps its own."""
    _replace_with("cli.billing", "price", subject, amount, metric, account, str(free), begins, reason, *(step or ()))


@billing.command()
def cost(
    sku: Annotated[str, typer.Argument(help="Of a hardware.")],
    amount: Annotated[str, typer.Argument(help="Dollars an hour; `none`: not known any more.")],
    begins: Begins = "",
    reason: Annotated[str, typer.Option(help="For the book.")] = "",
) -> None:
    """Say what an hour of a hardware costs you: margins are counted with it."""
    _replace_with("cli.billing", "cost", sku, amount, begins, reason)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


Email = Annotated[str, typer.Argument(help="As `millrace login list` shows it.")]


@login.command("create")
def create_login(
    email: Annotated[str, typer.Argument(help="By which the person logs in.")],
    account: Annotated[str, typer.Option(help="The account whose pages they may open.")] = "admin",
) -> None:
    """Let a person log in; asks for a password, or reads it from standard input."""
    _replace_with("cli.logins", "create", account, email)


@login.command("list")
def list_logins() -> None:
    """Show who may log in, and when they were last seen."""
    _replace_with("cli.logins", "list")


@login.command("password")
def set_password(email: Email) -> None:
    """Give a person a new password, and log them out everywhere; asks for it, or reads it from standard input."""
    _replace_with("cli.logins", "password", email)


@login.command("disable")
def disable_login(email: Email) -> None:
    """Let a person log in no more, and log them out everywhere."""
    _replace_with("cli.logins", "disable", email)


@billing.command()
def reconcile() -> None:
    """Show that ledger, balances, usage and predictions agree, or where they do not."""
    _replace_with("cli.reconcile")


@commands.command()
def version() -> None:
    """Print the version of Millrace."""
    typer.echo(installed_version("millrace"))


fleet_commands.add_to(commands)


def app(arguments: Sequence[str] | None = None) -> None:
    """The entry point."""
    try:
        commands(arguments)
    except Refusal as error:
        _fail(str(error))
    except ValidationError as error:
        _fail(" ".join(f"MILLRACE_{item['loc'][0]}".upper() + f": {item['msg']}." for item in error.errors()))


def _fail(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.exit(1)
