"""`millrace billing reconcile` on books that agree, and on some that do not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from core.ids import new_id
from core.people import accounts
from core.resources import Resources
from core.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

MILLRACE = Path(sys.executable).with_name("millrace")


def run(settings: Settings) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MILLRACE_DATA": str(settings.data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
    }
    command = [MILLRACE, "billing", "reconcile"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


async def test_books_that_agree_are_shown_promise_by_promise(settings: Settings) -> None:
    answer = run(settings)
    assert answer.returncode == 0, answer.stderr
    assert "Every ledger transaction sums to zero." in answer.stdout
    assert "The books agree." in answer.stdout


async def test_books_that_do_not_agree_name_what_and_by_how_much(settings: Settings, resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, new_id(), "somebody")
        await tx.execute(text("UPDATE wallets SET balance_nanos = 7 WHERE account_id = :id").bindparams(id=account.id))
    answer = run(settings)
    assert answer.returncode == 1
    assert account.id in answer.stdout
    assert "2 of" in answer.stderr, "neither the ledger nor the credits have that money"
