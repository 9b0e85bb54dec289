"""`millrace account create|list|limit|delete`: what only an operator does to accounts."""

import sys

from rich.text import Text

from cli import showing
from cli.errors import Refusal
from cli.operating import Work, account_named, run
from core.errors import Conflict, Invalid
from core.money.pricing import dollars, nanos
from core.people import accounts, closing
from core.people.accounts import Terms
from core.resources import Resources
from core.settings import Settings

#: More slots than any installation has: above it, it is a typing error.
_MOST_RUNNING = 100_000

_ASKED = """\
Deleting {name} revokes its tokens and logins, cancels its predictions, disables its deployments and makes its models \
private. What it used and paid stays on record. This cannot be undone.
Type {name} to go on: """


def delete(username: str, is_sure: str) -> Work:
    """Raises `Refusal`."""

    async def work(resources: Resources) -> None:
        async with resources.database.autocommit() as tx:
            account = await account_named(tx, username)
        if account.deleted_at is not None:
            raise Refusal(f"{username} was deleted on {account.deleted_at:%Y-%m-%d}.")
        if not is_sure:
            _ask(username)
        try:
            async with resources.database.transaction() as tx:
                await closing.delete(tx, account.id)
        except Conflict as error:
            raise Refusal(str(error)) from None
        sys.stdout.write(f"{username} is deleted; within 2 seconds nobody is let in for it.\n")

    return work


def _ask(username: str) -> None:
    """Raises `Refusal` unless whoever is there types the name."""
    if not sys.stdin.isatty():
        raise Refusal("Nobody is there to be asked: say --yes to delete it.")
    sys.stdout.write(_ASKED.format(name=username))
    sys.stdout.flush()
    if sys.stdin.readline().strip() != username:
        raise Refusal("Nothing was deleted.")


def create(username: str, name: str, type: str) -> Work:
    """With a wallet on the terms that the settings have for new accounts. Raises `Refusal`."""
    if type not in ("user", "organization"):
        raise Refusal(f"An account is a user or an organization, not {type}.")

    async def work(resources: Resources) -> None:
        terms = _terms(resources.settings)
        try:
            async with resources.database.transaction() as tx:
                await accounts.create(tx, username, name or username, terms, type)
        except (Conflict, Invalid) as error:
            raise Refusal(str(error)) from None
        sys.stdout.write(f"{username} is there; `millrace token create --account {username}` lets somebody in.\n")

    return work


def list_all() -> Work:
    async def work(resources: Resources) -> None:
        async with resources.database.autocommit() as tx:
            rows = await accounts.with_balances(tx)
        whole = map(showing.whole, ("account", "type"))
        numbers = [showing.whole(name, justify="right") for name in ("balance", "limit", "at once")]
        table = showing.table(*whole, *numbers, "since", "name")
        for row in rows:
            limit = "none" if row.credit_limit_nanos is None else dollars(row.credit_limit_nanos)
            since = f"{row.created_at:%Y-%m-%d}" + (f", deleted {row.deleted_at:%Y-%m-%d}" if row.deleted_at else "")
            most = _at_once(row.max_running, resources.settings)
            table.add_row(row.username, row.type, dollars(row.balance_nanos), limit, most, since, Text(row.name))
        showing.show(table)

    return work


def _at_once(max_running: int | None, settings: Settings) -> str:
    most = settings.account_concurrency if max_running is None else max_running
    return str(most) if most else "any"


def limit(username: str, running: str) -> Work:
    """How many of its predictions run at once: a number, `any` or `default`. Raises `Refusal`."""
    named = {"any": 0, "default": None}
    if running not in named and not (running.isascii() and running.isdigit() and 0 < int(running) <= _MOST_RUNNING):
        raise Refusal(f"--running is a number from 1 to {_MOST_RUNNING}, any or default, not {running}.")
    max_running = named[running] if running in named else int(running)

    async def work(resources: Resources) -> None:
        async with resources.database.transaction() as tx:
            account = await account_named(tx, username)
            await accounts.limit_running(tx, account.id, max_running)
        most = _at_once(max_running, resources.settings)
        if most == "any":
            sys.stdout.write(f"{username} runs as many predictions at once as there are slots for.\n")
        else:
            sys.stdout.write(f"{username} runs {most} at once from the next one on; none that runs is stopped.\n")

    return work


def _terms(settings: Settings) -> Terms:
    """Raises `Refusal`."""
    try:
        limit = nanos(settings.credit_limit) if settings.credit_limit else None
        return Terms(limit, nanos(settings.starting_credit))
    except ValueError as error:
        raise Refusal(f"MILLRACE_CREDIT_LIMIT and MILLRACE_STARTING_CREDIT are dollars, but {error}") from None


_VERBS = {"create": create, "list": list_all, "limit": limit, "delete": delete}


def main() -> int:
    return run(_VERBS[sys.argv[1]], *sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
