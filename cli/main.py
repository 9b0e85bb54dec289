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

from cli import checks
from cli.errors import Refusal
from cli.installation import installation
from cli.up import up as run_up
from core import health as signs
from core.settings import get_settings

commands = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
token = typer.Typer(no_args_is_help=True, help="Tokens that clients show to the api.")
commands.add_typer(token, name="token")
account = typer.Typer(no_args_is_help=True, help="Accounts, past the api.")
commands.add_typer(account, name="account")
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


@commands.command()
def version() -> None:
    """Print the version of Millrace."""
    typer.echo(installed_version("millrace"))


def _replace_with(module: str, *arguments: str) -> None:
    """Becomes a program that needs the database, which is not imported here: that takes a second, at each `health`."""
    settings = get_settings()
    checks.writable(settings.data)
    environment = installation(settings).environment
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], dict(environment))


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
