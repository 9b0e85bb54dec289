"""`millrace account limit`: how many predictions an account runs at once, as an operator decides it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.ids import new_id
from core.people import accounts
from core.redis import LIMITS
from core.resources import Resources
from core.settings import Settings

MILLRACE = Path(sys.executable).with_name("millrace")


@pytest.fixture
async def username(resources: Resources) -> str:
    async with resources.database.transaction() as tx:
        return (await accounts.ensure(tx, f"user-{new_id()}", "Some User")).username


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MILLRACE_DATA": str(settings.data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
        "MILLRACE_ACCOUNT_CONCURRENCY": "7",
    }
    command = [MILLRACE, "account", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


async def test_an_operator_limits_an_account_at_once_and_sees_it_in_the_list(
    settings: Settings, resources: Resources, username: str
) -> None:
    async with resources.database.autocommit() as tx:
        account = await accounts.by_username(tx, username)

    said = run(settings, "limit", username, "--running", "4")
    assert said.stdout == f"{username} runs 4 at once from the next one on; none that runs is stopped.\n", said.stderr
    assert await resources.redis.hget(LIMITS, account.id) == "4", "the next take knows it"
    assert re.search(rf"^{username} +user +\S+ +\S+ +4 ", run(settings, "list").stdout, re.MULTILINE)

    said = run(settings, "limit", username, "--running", "any")
    assert said.stdout == f"{username} runs as many predictions at once as there are slots for.\n"
    assert run(settings, "limit", username, "--running", "default").stdout.startswith(f"{username} runs 7 at once")
    assert await resources.redis.hget(LIMITS, account.id) is None
    assert re.search(rf"^{username} +user +\S+ +\S+ +7 ", run(settings, "list").stdout, re.MULTILINE)


@pytest.mark.parametrize("running", ["0", "-1", "four", "100001", "²"])
def test_what_is_no_limit_is_refused_in_a_sentence(settings: Settings, running: str) -> None:
    refused = run(settings, "limit", "admin", f"--running={running}")
    assert refused.returncode == 1
    assert refused.stderr == f"--running is a number from 1 to 100000, any or default, not {running}.\n"
