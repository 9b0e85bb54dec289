"""One api process with the servers `millrace up` would give it and nothing beside them, and what each of them costs.

No scheduler and no node: what a measurement puts into the tables stays as it is.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

import migrations
from cli.embedded.postgres import embedded_postgres
from cli.embedded.redis import embedded_redis
from cli.embedded.sockets import socket_folder
from core.settings import Settings

_START_SECONDS = 60
_STOP_SECONDS = 60
_LOOK_SECONDS = 0.05
#: Calls are counted against a limit as always, but it is never reached.
_UNREACHED = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Alone:
    """`settings` are the api's own: a measurement may open the same Postgres and Redis with them."""

    settings: Settings
    processes: Mapping[str, psutil.Process]

    @property
    def url(self) -> str:
        return self.settings.url

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time so far, by role."""
        return {name: sum(map(_cpu_seconds, _family(process))) for name, process in self.processes.items()}

    def memory_bytes(self, name: str) -> int:
        """What is in use by that process alone."""
        return self.processes[name].memory_full_info().uss


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu_seconds(process: psutil.Process) -> float:
    """With that of its children that have ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def running(data: Path, port: int) -> Iterator[Alone]:
    """Starts all three under `data`, with the newest tables, and ends them."""
    sockets = socket_folder(data)
    postgres = embedded_postgres(data / "postgres", sockets)
    redis = embedded_redis(sockets)
    settings = Settings(
        data=data,
        host="127.0.0.1",
        port=port,
        public_url=f"http://127.0.0.1:{port}",
        secret="only for this measurement",
        database_url=postgres.url,
        redis_url=redis.url,
        file_outputs="url",
        rate_calls_per_minute=_UNREACHED,
        rate_creates_per_minute=_UNREACHED,
    )
    with ExitStack() as stack:
        processes = {}

        def start(name: str, command: Sequence[str], environment: Mapping[str, str], ready: Callable[[], bool]) -> None:
            processes[name] = stack.enter_context(_running(command, environment, data / f"{name}.log"))
            _wait(ready, name, processes[name], data / f"{name}.log")

        postgres.before_init()
        _run([*postgres.privileges, *postgres.init_command], data / "initdb.log")
        postgres.after_init()
        postgres.before_start()
        start("postgres", [*postgres.privileges, *postgres.command], {}, lambda: _succeeds(postgres.ready_command))
        start("redis", redis.command, {}, redis.socket.exists)
        migrations.upgrade(postgres.url)
        start("api", (sys.executable, "-m", "api"), _environment(settings), lambda: _answers(settings.url))
        yield Alone(settings, {name: psutil.Process(process.pid) for name, process in processes.items()})


def _environment(settings: Settings) -> dict[str, str]:
    given = settings.model_dump(mode="json", exclude_unset=True)
    return {f"MILLRACE_{name.upper()}": str(value) for name, value in given.items()}


def _run(command: Sequence[str], log: Path) -> None:
    with log.open("wb") as output:
        subprocess.run(["setpriv", *command], check=True, stdout=output, stderr=output)


@contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen]:
    # So that a measurement that is killed leaves no servers.
    whole = ["setpriv", "--pdeathsig", "INT", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(whole, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(2)
        process.wait(_STOP_SECONDS)


def _wait(ready: Callable[[], bool], name: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{name} did not get ready:\n{log.read_text(errors='replace')}")
        time.sleep(_LOOK_SECONDS)


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, check=False).returncode == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.TransportError:
        return False
