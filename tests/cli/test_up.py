"""One box from the first start to the last stop, as its user sees it."""

import json
import re
import signal
import stat
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.running_up import MILLRACE, Up

EVERYTHING = {"postgres", "redis", "jobs", "webhooks", "scheduler", "node", "api"}
EXAMPLE_SECONDS = 120

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("box"))
    yield up
    up.end()


def get(ready: dict[str, Any], path: str) -> Any:
    request = urllib.request.Request(f"{ready['api_url']}{path}", headers={"Authorization": f"Bearer {ready['token']}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
        return json.load(response)


def run(up: Up, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MILLRACE, *arguments], env=up.environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_first_start_says_where_it_is_and_how_to_use_it(up: Up) -> None:
    ready = up.start()
    url = f"http://localhost:{up.port}"
    assert ready.keys() == {"url", "api_url", "token", "webhook_secret"}
    assert (ready["url"], ready["api_url"]) == (url, f"{url}/v1")
    assert ready["webhook_secret"] == get(ready, "/webhooks/default/secret")["key"]
    for name in ("ready.json", "secrets.json"):
        assert stat.S_IMODE((up.data / name).stat().st_mode) == 0o600
    assert up.pids().keys() == EVERYTHING


def test_the_admin_logs_in_to_the_pages_with_the_password_in_the_file_it_names(up: Up) -> None:
    up.wait_for(lambda: " are for admin@localhost; " in up.output)
    named = re.search(r"the first password is in (\S+) as admin_password", up.output)
    assert named
    password = json.loads(Path(named[1]).read_text())["admin_password"]
    assert password not in up.output
    fields = urllib.parse.urlencode({"email": "admin@localhost", "password": password}).encode()
    url = f"http://localhost:{up.port}"
    request = urllib.request.Request(f"{url}/login", fields, {"Origin": url})
    cookies = urllib.request.HTTPCookieProcessor()
    with urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies).open(request, timeout=30) as response:
        assert "admin@localhost" in response.read().decode()


def test_the_printed_example_works_as_it_is_printed(up: Up) -> None:
    up.wait_for(lambda: re.search(r"^  -d '", up.output, re.MULTILINE) is not None)
    example = up.output[up.output.index("# Replicate's own client") :]
    done = subprocess.run(
        ["bash", "-e"], input=example, capture_output=True, text=True, timeout=EXAMPLE_SECONDS, check=False
    )
    first, second = done.stdout.splitlines()
    assert first == "hello Ada", done.stderr
    assert json.loads(second)["output"] == "hello Ada"


def test_an_operator_makes_another_token(up: Up) -> None:
    made = run(up, "token", "create", "--account", "admin", "--name", "laptop")
    ready = json.loads((up.data / "ready.json").read_text())
    assert get({**ready, "token": made.stdout.strip()}, "/account")["username"] == "admin"
    assert run(up, "token", "create", "--account", "nobody").stderr == "There is no account nobody.\n"


def test_health_tells_whether_a_process_gives_signs_of_life(up: Up) -> None:
    assert run(up, "health", "node").returncode == 0
    silent = run(up, "health", "nothing")
    assert (silent.returncode, silent.stderr) == (1, "nothing has not been seen; look at its log.\n")


def test_a_second_up_on_the_same_data_is_refused_and_disturbs_nothing(up: Up) -> None:
    sentence = up.refused()
    assert f"Millrace already runs on {up.data}" in sentence
    assert (up.data / "ready.json").exists()


def test_a_process_that_dies_is_started_again(up: Up) -> None:
    before = up.pids()["scheduler"]
    psutil.Process(before).kill()
    up.wait_for(lambda: "scheduler ended" in up.output and "starts again" in up.output)
    up.wait_for(lambda: up.pids()["scheduler"] != before)


def test_sigterm_stops_everything_it_started(up: Up) -> None:
    started = up.started()
    assert up.stop() == 0
    assert not [process for process in started if process.is_running()]
    assert not (up.data / "ready.json").exists()


def test_a_second_start_keeps_what_was_there_and_sets_nothing_up_again(up: Up) -> None:
    before = (up.data / "secrets.json").read_text()
    ready = up.start()
    assert (up.data / "secrets.json").read_text() == before
    assert [one["output"] for one in get(ready, "/predictions")["results"]] == ["hello Ada", "hello Ada"]
    assert re.search(r"Setup.*as before", up.output)


def test_after_kill_9_nothing_goes_on_running(up: Up) -> None:
    started = up.started()
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    assert not (up.data / "ready.json").exists()


def test_after_kill_9_the_next_start_recovers(up: Up) -> None:
    up.start()
    assert up.process is not None
    left = up.started()
    up.process.kill()
    up.process.wait()
    ready = up.start()
    assert len(get(ready, "/predictions")["results"]) == 2
    assert not [process for process in left if process.is_running()]


def test_the_second_signal_hurries(up: Up) -> None:
    assert up.process is not None
    started = up.started()
    up.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    assert not [process for process in started if process.is_running()]
