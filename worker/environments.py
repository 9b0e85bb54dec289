"""Python environments for bundles: one venv per interpreter, Cog version and set of requirements, built once.

Knows pip and the lock; knows nothing of bundles' files or of running models.
"""

import asyncio
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.cog_config import CogConfig
from core.log import get_logger
from worker.locks import exclusive
from worker.model_process import installer_environment, run
from worker.runtimes.base import ArtifactUnavailable

# A CUDA build of torch is 3 GB: on a slow line pip needs its time, but not for ever.
BUILD_TIMEOUT_SECONDS = 3600
PROBE_TIMEOUT_SECONDS = 30
# Raise it when the recipe below changes, so that environments built by the old one are not reused.
RECIPE = 1
COMPLETE = ".complete"
REQUIREMENTS = "requirements.txt"
ERROR_LINES = 12

Log = Callable[[str], None]
log = get_logger()


@dataclass(frozen=True, slots=True)
class Environment:
    """A finished venv."""

    path: Path
    python_version: str

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Interpreter:
    executable: str
    version: str


class Environments:
    """`root` holds `<hash>/`, and `<hash>.lock` and `<hash>.log` beside it. Safe with any number of processes."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._interpreters: dict[str, Interpreter | None] = {}

    async def ensure(self, config: CogConfig, on_line: Log | None = None) -> Environment:
        """The environment for `config`, built if it is not there. Raises `ArtifactUnavailable`."""
        say = on_line or (lambda line: log.debug("environment", line=line))
        interpreter = await self._interpreter(config.python_version, say)
        if config.system_packages:
            say(f"Not installed here, since that takes root: system packages {', '.join(config.system_packages)}.")
        requirements = [f"cog=={config.sdk_version}", *sorted(set(config.requirements))]
        key = _key(interpreter, requirements)
        environment = Environment(self._root / key, interpreter.version)
        if _is_complete(environment):
            return environment
        try:
            async with exclusive(self._root / f"{key}.lock") as lock:
                if not _is_complete(environment):
                    await self._build(environment, interpreter, requirements, lock, say)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise ArtifactUnavailable(full_disk(self._root)) from error
            raise
        return environment

    async def _build(
        self, environment: Environment, interpreter: Interpreter, requirements: list[str], lock: int, say: Log
    ) -> None:
        """In place, for a venv cannot be moved; the marker comes last, and a folder without one is started afresh."""
        if environment.path.exists():
            await asyncio.to_thread(shutil.rmtree, environment.path)
        environment.path.mkdir(parents=True)
        (environment.path / REQUIREMENTS).write_text("\n".join(requirements) + "\n", encoding="utf-8")
        say(f"Building an environment with Python {interpreter.version} and {', '.join(requirements)}.")
        started = time.monotonic()
        with environment.path.with_suffix(".log").open("w", encoding="utf-8") as build_log:

            def record(line: str) -> None:
                build_log.write(line + "\n")
                build_log.flush()
                say(line)

            for command in _steps(environment, interpreter):
                await self._step(command, lock, record)
        (environment.path / COMPLETE).touch()
        seconds = round(time.monotonic() - started, 1)
        log.info("environment built", path=str(environment.path), requirements=requirements, seconds=seconds)

    async def _step(self, command: list[str], lock: int, record: Log) -> None:
        """The child keeps the lock should this process be killed: nobody else builds here while it still writes."""
        try:
            finished = await run(
                command,
                environment=installer_environment(),
                cwd=self._root,
                timeout_seconds=BUILD_TIMEOUT_SECONDS,
                on_line=record,
                pass_fds=(lock,),
            )
        except TimeoutError:
            raise ArtifactUnavailable(
                f"Building the environment took over {BUILD_TIMEOUT_SECONDS} s and was stopped; try again."
            ) from None
        if finished.code != 0:
            raise ArtifactUnavailable(_failure(self._root, finished.lines))

    async def _interpreter(self, wanted: str | None, say: Log) -> Interpreter:
        """The Python that cog.yaml asks for if this machine has it, else our own."""
        host = Interpreter(sys.executable, ".".join(map(str, sys.version_info[:3])))
        if wanted is None or f"{host.version}.".startswith(f"{wanted}."):
            return host
        if wanted not in self._interpreters:
            self._interpreters[wanted] = await _find_interpreter(wanted)
        found = self._interpreters[wanted]
        if found is None:
            say(f"cog.yaml asks for Python {wanted}, which is not on this machine; using Python {host.version}.")
        return found or host


def _steps(environment: Environment, interpreter: Interpreter) -> list[list[str]]:
    """Our own pip installs into the venv, which saves the seconds that bootstrapping one there takes.

    Bytecode is left to the first import: compiling all of torch takes longer than unpacking it. Importing Cog's server
    compiles what every start needs, and proves that the environment works.
    """
    if importlib.util.find_spec("pip") is None:
        raise ArtifactUnavailable(f"{sys.executable} has no pip; run `{sys.executable} -m ensurepip`.")
    python = str(environment.python)
    pip = [sys.executable, "-m", "pip", "--python", python, "--no-input", "--disable-pip-version-check"]
    return [
        [interpreter.executable, "-m", "venv", "--without-pip", str(environment.path)],
        [*pip, "install", "--no-compile", "--progress-bar", "off", "-r", str(environment.path / REQUIREMENTS)],
        [python, "-c", "import cog.server.http"],
    ]


async def _find_interpreter(version: str) -> Interpreter | None:
    """python<version> on PATH, if it really runs: version managers put launchers there that only print an error."""
    executable = shutil.which(f"python{version}")
    if executable is None:
        return None
    finished = await run(
        [executable, "-c", "import platform, venv; print(platform.python_version())"],
        environment=installer_environment(),
        cwd=Path.cwd(),
        timeout_seconds=PROBE_TIMEOUT_SECONDS,
    )
    return Interpreter(executable, finished.lines[-1]) if finished.code == 0 and finished.lines else None


def _key(interpreter: Interpreter, requirements: list[str]) -> str:
    recipe = json.dumps([RECIPE, sysconfig.get_platform(), interpreter.version, requirements])
    return hashlib.sha256(recipe.encode()).hexdigest()[:32]


def _is_complete(environment: Environment) -> bool:
    """Built to the end, and the interpreter it links to was not uninstalled since."""
    return (environment.path / COMPLETE).exists() and environment.python.exists()


def _failure(root: Path, lines: tuple[str, ...]) -> str:
    text = "\n".join(lines)
    if os.strerror(errno.ENOSPC) in text:
        return full_disk(root)
    errors = [line for line in lines if line.lstrip().upper().startswith("ERROR")]
    last = "\n".join((errors or [line for line in lines if line.strip()])[-ERROR_LINES:])
    return f"The requirements could not be installed; correct them, or check this machine's network. pip said:\n{last}"


def full_disk(root: Path) -> str:
    return f"The disk that holds {root} is full; free some space there, or move MILLRACE_DATA to a larger one."
