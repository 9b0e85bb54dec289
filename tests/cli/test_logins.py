"""`millrace login`: who may open the pages, as an operator decides it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.ids import new_id
from core.people import accounts, logins, sessions
from core.resources import Resources
from core.settings import Settings

MILLRACE = Path(sys.executable).with_name("millrace")
PASSWORD, OTHER = "correct horse battery", "another one, as long"


@pytest.fixture
async def username(resources: Resources) -> str:
    async with resources.database.transaction() as tx:
        return (await accounts.ensure(tx, f"user-{new_id()}", "Some User")).username


def run(settings: Settings, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MILLRACE_DATA": str(settings.data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
    }
    command = [MILLRACE, "login", *arguments]
    return subprocess.run(
        command, env=environment, input=typed, capture_output=True, text=True, timeout=60, check=False
    )


async def test_an_operator_lets_people_in_and_shuts_them_out(
    settings: Settings, resources: Resources, username: str
) -> None:
    email = f"{username}@example.com"
    made = run(settings, "create", email.upper(), "--account", username, typed=f"{PASSWORD}\n")
    assert made.stdout == f"{email} may log in to the pages of {username}.\n", made.stderr
    login = await logins.check(resources.database, email, PASSWORD)
    assert login is not None
    async with resources.database.transaction() as tx:
        secret = await sessions.start(tx, login.id, "127.0.0.1", "")

    changed = run(settings, "password", email, typed=f"{OTHER}\n")
    assert changed.stdout == f"{email} has a new password, and is logged out everywhere.\n"
    assert await logins.check(resources.database, email, PASSWORD) is None
    assert await logins.check(resources.database, email, OTHER) is not None
    async with resources.database.autocommit() as tx:
        assert await sessions.find(tx, secret) is None

    assert run(settings, "disable", email).returncode == 0
    assert await logins.check(resources.database, email, OTHER) is None
    listed = run(settings, "list").stdout
    assert re.search(rf"^{email} +{username} +\d{{4}}-\d\d-\d\d \d\d:\d\d UTC +no *$", listed, re.MULTILINE)
    assert PASSWORD not in made.stdout + listed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["create", "a@b.example"], "A password has at least 10 characters."),
        (["disable", "a@b.example"], "There is no login a@b.example; `millrace login list` shows them."),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_sentence(
    settings: Settings, resources: Resources, clean_database: None, arguments: list[str], sentence: str
) -> None:
    async with resources.database.transaction() as tx:
        await accounts.ensure(tx, "admin", "admin")
    refused = run(settings, *arguments, typed="short\n")
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"{sentence}\n")
