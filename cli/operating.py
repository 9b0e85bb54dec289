"""Commands that work on the database, past the api: as the operator, with one sentence where they cannot."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

from rich.console import RenderableType
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from cli import showing
from cli.errors import Refusal
from core.database import Transaction
from core.errors import MillraceError, NotFound
from core.people import accounts, audit
from core.resources import Resources, open_resources
from core.settings import get_settings

Work = Callable[[Resources], Awaitable[None]]
Verb = Callable[..., Awaitable[RenderableType]]
"""Takes a transaction, and then words; returns what is to be shown."""


def run(make: Callable[..., Work], *words: str) -> int:
    """As `operate`, of the work that these words ask for; they may be none."""
    try:
        work = make(*words)
    except Refusal as error:
        return _fail(str(error))
    return operate(work)


def answering(verb: Verb, *words: str) -> Work:
    """All of it in one transaction."""

    async def work(resources: Resources) -> None:
        try:
            async with resources.database.transaction() as tx:
                answer = await verb(tx, *words)
        except MillraceError as error:
            raise Refusal(error.detail) from None
        showing.show(answer)

    return work


def operate(work: Work) -> int:
    """The exit status. What `work` changes is on record as done by whoever runs the command."""
    audit.act_as(audit.operator())
    try:
        asyncio.run(_with_resources(work))
    except Refusal as error:
        return _fail(str(error))
    except BrokenPipeError:
        # Whoever reads has seen enough. What is left goes nowhere, or the interpreter would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (SQLAlchemyError, OSError) as error:
        return _fail(f"The database does not answer; is Millrace running? ({' '.join(str(error).split())})")
    return 0


async def _with_resources(work: Work) -> None:
    async with open_resources(get_settings()) as resources:
        await work(resources)


async def account_named(tx: Transaction, username: str) -> Row:
    """Raises `Refusal`."""
    try:
        return await accounts.by_username(tx, username)
    except NotFound:
        raise Refusal(f"There is no account {username}.") from None


def _fail(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1
