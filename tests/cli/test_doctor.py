"""`millrace doctor` says what is wrong, with what, and ends with 1; a program reads the same as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.settings import Settings

pytestmark = pytest.mark.usefixtures("clean_database")

MILLRACE = Path(sys.executable).with_name("millrace")


def run(settings: Settings, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MILLRACE_DATA": str(settings.data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
        "MILLRACE_RUNTIME": "process",
    }
    command = [MILLRACE, "doctor", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


async def test_what_is_wrong_is_said_with_what_to_do(settings: Settings) -> None:
    answer = run(settings)
    assert answer.returncode == 1
    assert "No scheduler leads: nothing is placed, rescued or retried until one is started." in answer.stdout
    assert "Every ledger transaction" not in answer.stdout, "`reconcile` shows the single promises of the books"
    assert "checks found something" in answer.stderr


async def test_a_program_reads_every_check_with_its_invariant(settings: Settings) -> None:
    answer = run(settings, "--json", "--quick")
    assert answer.returncode == 1
    results = {result["check"]: result for result in json.loads(answer.stdout)}
    assert {result["invariant"] for result in results.values()} >= {1, 2, 4, 6, 7, 8, 9, 10}
    assert results["leader"]["findings"][0]["subject"] == "scheduler"
    assert results["schema"]["findings"] == []
    assert results["containers"]["not_checked"]
    assert "books" not in results
