"""The official clients as their users have them: from PyPI and npm, each in a place of its own, kept between runs."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.bundles import CACHE

SCRIPTS = Path(__file__).parent / "scripts"
#: Names of their fixtures.
CLIENTS = ("python1", "python2", "javascript")
#: A busy machine may boot a model in between.
SCRIPT_SECONDS = 120
INSTALL_SECONDS = 300


def python_client(version: str) -> Path:
    """The interpreter of a venv with `replicate` in that version."""
    folder = CACHE / f"replicate-py-{version}"
    with _installed_once(folder) as is_new:
        if is_new:
            _run([sys.executable, "-m", "venv", str(folder)])
            _run([f"{folder}/bin/pip", "install", "--quiet", f"replicate=={version}"])
    return folder / "bin" / "python"


def javascript_client(version: str) -> Path:
    """A folder whose node_modules has `replicate` in that version. Skips the test where there is no node."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed.")
    folder = CACHE / f"replicate-js-{version}"
    with _installed_once(folder) as is_new:
        if is_new:
            folder.mkdir()
            (folder / "package.json").write_text('{"private": true, "type": "module"}')
            _run(["npm", "install", "--silent", "--no-audit", "--no-fund", f"replicate@{version}"], folder)
    return folder


@contextmanager
def _installed_once(folder: Path) -> Iterator[bool]:
    """Whether it is still to be installed; one process does so, and what it leaves unfinished is done anew."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    finished = folder / ".finished"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_new = not finished.exists()
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        yield is_new
        finished.touch()


def _run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"


class Script:
    """A script that uses one client: `<name> <argument as JSON>`, and the last line it prints is its result."""

    def __init__(self, command: list[str], environment: Mapping[str, str], folder: Path) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}
        self._folder = folder

    def speaking_for(self, token: str) -> "Script":
        return Script(self._command, {**self._environment, "REPLICATE_API_TOKEN": token}, self._folder)

    def running(self, script: Path) -> "Script":
        """The same client with another script."""
        return Script([self._command[0], str(script)], self._environment, self._folder)

    def against(self, api_url: str) -> "Script":
        """Told of another base URL."""
        return Script(
            self._command, {**self._environment, "REPLICATE_BASE_URL": api_url, "API_URL": api_url}, self._folder
        )

    async def __call__(self, name: str, /, **arguments: Any) -> Any:
        command = [*self._command, name, json.dumps(arguments)]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environment,
            cwd=self._folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, errors = await asyncio.wait_for(process.communicate(), SCRIPT_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0, f"{name} failed:\n{out.decode()}{errors.decode()}"
        return json.loads(out.decode().splitlines()[-1])


def resources_script(request: pytest.FixtureRequest) -> Script:
    """The script about resources, of the client that this test is run with."""
    script: Script = request.getfixturevalue(request.param)
    suffix = "mjs" if request.param == "javascript" else "py"
    return script.running(SCRIPTS / f"resources_{request.param}.{suffix}")
