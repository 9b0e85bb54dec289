"""What tests marked `docker` need. Missing, it skips them with the reason; in CI it fails them.

A pytest plugin: name it in `pytest_plugins`.
"""

import os
import shutil
from functools import cache

import docker
import pytest
from docker.errors import DockerException

COMMANDS = ("debootstrap", "docker-registry", "docker-compose")
ANSWER_SECONDS = 10


@cache
def missing_for_docker() -> str | None:
    """A sentence, or None where everything is there."""
    try:
        client = docker.from_env(timeout=ANSWER_SECONDS)
        client.ping()
        client.close()
    except DockerException as error:
        return f"No Docker engine answers: {error}"
    missing = [command for command in COMMANDS if not shutil.which(command)]
    if missing:
        return f"Not installed: {', '.join(missing)}."
    if os.geteuid() != 0:
        return "Base images are made with debootstrap, which needs root."
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("docker") is None or (reason := missing_for_docker()) is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"CI has to run this test, and cannot: {reason}", pytrace=False)
    pytest.skip(reason)
