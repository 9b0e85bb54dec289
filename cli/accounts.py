"""`millrace account delete`: what only an operator does to accounts."""

import sys

from cli.errors import Refusal
from cli.operating import Work, account_named, operate
from core import closing
from core.errors import Conflict
from core.resources import Resources

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


_VERBS = {"delete": delete}


def main() -> int:
    return operate(_VERBS[sys.argv[1]](*sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
