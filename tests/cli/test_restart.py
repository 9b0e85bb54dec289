"""`millrace restart` on a running `millrace up`: its processes begin anew, and what they serve goes on."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running_up import MILLRACE, Up, wait_until

RESTART_SECONDS = 120

pytestmark = pytest.mark.faults


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    try:
        yield up
    finally:
        up.end()


def command(up: Up) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MILLRACE, "restart"], env=up.environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_every_process_begins_anew_and_the_node_stays_the_same_process(up: Up) -> None:
    up.start()
    before = up.pids()
    assert command(up).returncode == 0
    ours = ("jobs", "webhooks", "scheduler", "api")
    wait_until(lambda: all(up.pids().get(name, before[name]) != before[name] for name in ours), RESTART_SECONDS)
    node = up.data / "logs" / "node.log"
    wait_until(lambda: node.read_text().count("node is up") == 2, RESTART_SECONDS)
    after = up.pids()
    assert {name: after[name] for name in ("postgres", "redis", "node")} == {
        name: before[name] for name in ("postgres", "redis", "node")
    }
    assert up.stop() == 0


def test_where_nothing_runs_it_says_so(up: Up) -> None:
    done = command(up)
    assert done.returncode != 0
    assert "does not run" in done.stderr
