"""`millrace token`: what an operator makes, sees and revokes, past the api."""

import io
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import Row

from cli import tokens as commands
from cli.errors import Refusal
from core.clock import now
from core.ids import new_id
from core.people import accounts, tokens
from core.resources import Resources
from core.settings import Settings

MILLRACE = Path(sys.executable).with_name("millrace")


@pytest.fixture
async def username(resources: Resources) -> str:
    return await add_account(resources)


async def add_account(resources: Resources) -> str:
    async with resources.database.transaction() as tx:
        return (await accounts.ensure(tx, f"user-{new_id()}", "Some User")).username


async def create(resources: Resources, username: str, name: str = "", lifetime: str = "", *scopes: str) -> str:
    async with resources.database.transaction() as tx:
        return await commands.create(tx, username, name, lifetime, *scopes)


async def revoke(resources: Resources, username: str, id: str) -> str:
    async with resources.database.transaction() as tx:
        return await commands.revoke(tx, username, id)


async def listed(resources: Resources, username: str, width: int = 1000) -> list[str]:
    async with resources.database.transaction() as tx:
        table = await commands.list_all(tx, username)
    written = io.StringIO()
    Console(file=written, width=width).print(table)
    return written.getvalue().splitlines()


async def caller_of(resources: Resources, token: str) -> Row | None:
    async with resources.database.autocommit() as tx:
        return await tokens.caller(tx, token)


async def test_the_commands_make_list_and_revoke(settings: Settings, resources: Resources, username: str) -> None:
    environment = {
        **os.environ,
        "MILLRACE_DATA": str(settings.data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [MILLRACE, "token", *arguments, "--account", username]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    made = run("create", "--name", "laptop", "--scope", "run", "--scope", "read", "--expires", "90d").stdout.strip()
    caller = await caller_of(resources, made)
    assert (caller.username, caller.scopes) == (username, ["read", "run"])
    assert re.search(rf"^{caller.token_id} +{made[:8]}… +laptop +read run ", run("list").stdout, re.MULTILINE)
    assert run("revoke", caller.token_id).stdout == f"The token {made[:8]}… is revoked.\n"
    assert await caller_of(resources, made) is None
    refused = run("revoke", "nothing")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"{username} has no token nothing; `millrace token list` shows their ids.\n"


async def test_a_new_token_may_do_everything_for_ever_unless_told_otherwise(
    resources: Resources, username: str
) -> None:
    caller = await caller_of(resources, await create(resources, username))
    assert (caller.username, caller.scopes, caller.expires_at) == (username, list(tokens.EVERY_SCOPE), None)


@pytest.mark.parametrize(("lifetime", "expected"), [("12h", timedelta(hours=12)), ("90d", timedelta(days=90))])
async def test_a_token_expires_when_it_is_told_to(
    resources: Resources, username: str, lifetime: str, expected: timedelta
) -> None:
    caller = await caller_of(resources, await create(resources, username, "", lifetime))
    assert abs(caller.expires_at - now() - expected) < timedelta(minutes=5)


async def test_the_list_shows_what_there_is_and_no_token(resources: Resources, username: str) -> None:
    long = "of the build server, with a name that is longer than any terminal [red]is wide[/red]"
    used = await create(resources, username, long)
    fresh = await create(resources, username, "", "12h", "run")
    async with resources.database.autocommit() as tx:
        await tokens.touch(tx, (await tokens.caller(tx, used)).token_id)
    header, second, first = await listed(resources, username)
    assert re.split(r"  +", header.strip()) == ["id", "token", "name", "scopes", "last used", "valid"]
    assert long in first
    assert re.search(r" read run write billing admin +\d{4}-\d\d-\d\d \d\d:\d\d UTC +until revoked", first)
    assert re.search(r"  run +never +until \d{4}-\d\d-\d\d \d\d:\d\d UTC", second)
    for token in (used, fresh):
        assert token not in first + second
        id = (await caller_of(resources, token)).token_id
        assert sum(id in line for line in await listed(resources, username, width=80)) == 1


async def test_a_revoked_token_stays_in_the_list(resources: Resources, username: str) -> None:
    id = (await caller_of(resources, await create(resources, username))).token_id
    await revoke(resources, username, id)
    assert re.search(rf"^{id} .* revoked \d{{4}}-\d\d-\d\d", (await listed(resources, username))[1])


async def test_another_accounts_token_is_not_revoked(resources: Resources, username: str) -> None:
    made = await create(resources, username)
    id = (await caller_of(resources, made)).token_id
    other = await add_account(resources)
    with pytest.raises(Refusal, match=f"{other} has no token {id}"):
        await revoke(resources, other, id)
    assert await caller_of(resources, made) is not None


@pytest.mark.parametrize(
    ("lifetime", "scopes", "sentence"),
    [
        ("", ["all"], "There is no scope all; there are read, run, write, billing, admin."),
        ("soon", [], "A token cannot be valid for 'soon': give hours or days, like 12h or 90d."),
        ("0d", [], "A token cannot be valid for '0d': give hours or days, like 12h or 90d."),
    ],
)
async def test_what_is_no_scope_and_no_time_is_named(
    resources: Resources, username: str, lifetime: str, scopes: list[str], sentence: str
) -> None:
    with pytest.raises(Refusal) as refused:
        await create(resources, username, "", lifetime, *scopes)
    assert str(refused.value) == sentence


async def test_an_account_that_is_not_there_is_named(resources: Resources) -> None:
    for asking in (create(resources, "nobody"), revoke(resources, "nobody", "x"), listed(resources, "nobody")):
        with pytest.raises(Refusal, match=r"^There is no account nobody\.$"):
            await asking
