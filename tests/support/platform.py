"""The whole of Millrace as real processes on a data folder of its own, each of which a test may kill and start again.

Environments of models are those kept between runs, so that none is built twice. Ends everything it started.
"""

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import aiohttp
import docker
import psutil

import migrations
from cli import setup
from cli.embedded.postgres import Postgres, embedded_postgres
from cli.embedded.redis import embedded_redis
from cli.embedded.sockets import socket_folder
from cli.processes import PROCESSES
from core import catalog, health
from core.hardware import CPU
from core.ids import new_id
from core.lifecycle import VersionStatus
from core.people.tokens import new_token
from core.resources import Resources, open_resources
from core.settings import Settings, process_environment
from tests.support.bundles import data_folder
from tests.support.client import Client
from tests.support.ports import free_port
from tests.support.process import Process
from tests.support.servers import initialize

PROJECTS = Path(__file__).parents[1] / "cog_projects"
MODELS = Path(__file__).parents[2] / "cog_models"

# What is left after a power cut matters to nobody; what is left after a kill does, so commits are synchronous.
DATABASE_SETTINGS = {"fsync": "off", "full_page_writes": "off"}
#: A lease stays as long as it is: a busy machine may not let a node turn for ten seconds.
QUICK = {"node_heartbeat_seconds": 1.0, "cancel_grace_seconds": 1.5}

START_SECONDS = 60.0
#: Preparing reads the model's schema in its environment; building that, if nobody has yet, takes longest.
READY_SECONDS = 300.0
_GRACE_SECONDS = 30.0
_LOOK_SECONDS = 0.05

SERVERS = ("postgres", "redis")


class Platform:
    """`processes` are `postgres`, `redis` and those of `cli.processes`; `settings` are what all of them run with.

    `prefixes` are words before the command of a process, by its name, such as `env` and a variable.
    """

    def __init__(self, data: Path, prefixes: Mapping[str, Sequence[str]] | None = None, **settings: Any) -> None:
        self._prefixes = prefixes or {}
        self._sockets = socket_folder(data_folder(data))
        self._stack = AsyncExitStack()
        self._postgres = embedded_postgres(data / "postgres", self._sockets, DATABASE_SETTINGS)
        self._redis = embedded_redis(self._sockets)
        self.settings = _settings(data, self._postgres, self._redis.url, settings)
        self.processes = {process.name: process for process in self._processes()}
        self._docker = docker.from_env() if self.settings.runtime == "docker" else None
        self.resources: Resources
        self.client: Client
        self._publisher: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    @property
    def api_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def postgres_socket(self) -> Path:
        return self._sockets / ".s.PGSQL.5432"

    @property
    def token(self) -> str:
        return self.settings.admin_token

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        left = await self.stop()
        assert not left, f"Stopping left containers behind: {left}"

    # --- starting and ending ---

    async def start(self) -> None:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        await asyncio.to_thread(initialize, self._postgres, self.settings.data / "logs/initdb.log")
        for name in SERVERS:
            self.processes[name].start()
        for name in SERVERS:
            await self.wait_up(name)
        await asyncio.to_thread(migrations.upgrade, self._postgres.url)
        self.resources = await self._stack.enter_async_context(open_resources(self.settings))
        self._stack.push_async_callback(self.resources.redis.connection_pool.disconnect)
        self._publisher = await setup.seed_accounts(self.resources)
        await setup.seed_hardware(self.resources)
        self.client = Client(self.api_url, self.token)
        self._stack.push_async_callback(self.client.close)
        for name in PROCESSES:
            self.processes[name].start()
        for name in PROCESSES:
            await self.wait_up(name)

    async def stop(self) -> list[str]:
        """Stops what runs, the last started first. Returns the containers that the node left, which are ended, too."""
        await self._stack.aclose()
        for name in reversed(PROCESSES):
            await self.processes[name].stop()
        left = self.containers()
        self._end_containers()
        for name in reversed(SERVERS):
            await self.processes[name].stop()
        if self._docker is not None:
            self._docker.close()
        shutil.rmtree(self._sockets, ignore_errors=True)
        return left

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends the signal; after one that ends a process, returns when it has ended."""
        process = self.processes[name]
        children = psutil.Process(process.pid).children() if name == "postgres" else []
        process.send(number)
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            process.is_wanted = False
            await process.wait()
        if name == "postgres":
            # Its sessions notice a moment later, and until they have ended no other server starts on that folder.
            await asyncio.to_thread(psutil.wait_procs, children, _GRACE_SECONDS)
            await self.resources.database.engine.dispose()

    async def ended(self, name: str) -> None:
        """Waits for it to end by itself."""
        process = self.processes[name]
        process.is_wanted = False
        await process.wait()

    async def restart(self, name: str) -> None:
        """Starts it anew, killing it where it runs, and waits until it is up, as its supervisor would."""
        process = self.processes[name]
        if process.is_running:
            await self.kill(name)
        health.forget(self.settings, name)
        process.start()
        await self.wait_up(name)

    async def restart_redis(self) -> None:
        """Kills it and starts an empty one."""
        await self.restart("redis")

    def check(self) -> None:
        """Nobody may have ended but those that a test has killed."""
        for process in self.processes.values():
            assert process.is_running or not process.is_wanted, f"{process.name} ended by itself:\n{process.tail()}"

    async def heal(self) -> None:
        """Starts whatever a test has left dead, so that the next one finds everything up."""
        for name in (*SERVERS, *PROCESSES):
            if not self.processes[name].is_running:
                await self.restart(name)

    async def wait_up(self, name: str) -> None:
        process = self.processes[name]
        deadline = time.monotonic() + START_SECONDS
        while not await self._is_up(name):
            alive = process.is_running and time.monotonic() < deadline
            assert alive, f"{name} is not up. Its log ends with:\n{process.tail()}"
            await asyncio.sleep(_LOOK_SECONDS)

    async def _is_up(self, name: str) -> bool:
        match name:
            case "postgres":
                probe = await asyncio.create_subprocess_exec(*self._postgres.ready_command)
                return await probe.wait() == 0
            case "redis":
                return await _accepts(self._redis.socket)
            case "api":
                return await self._api_answers()
        return health.is_alive(self.settings, name)

    async def _api_answers(self) -> bool:
        try:
            async with aiohttp.request("GET", f"{self.url}/health") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def logs(self) -> str:
        """The end of every log, for the message of a test that fails."""
        return "\n\n".join(f"--- {name} ---\n{process.tail()}" for name, process in self.processes.items())

    # --- containers ---

    def containers(self) -> list[str]:
        """Every container of this platform that exists: model processes by pid, Docker's by name."""
        found = [f"process {process.pid}: {' '.join(process.cmdline())}" for process in self.model_processes()]
        return found + [f"container {container.name}" for container in self.docker_containers()]

    def model_processes(self) -> list[psutil.Process]:
        """All that runs a model author's code, whoever its parent is by now: its HOME is below our data folder."""
        instances = str(self.settings.data / "instances")
        return [process for process in psutil.process_iter() if _home(process).startswith(instances)]

    def docker_containers(self) -> list[Any]:
        """Those that serve an Instance, or did."""
        return [each for each in self._all_docker_containers() if not each.name.startswith("millrace-spare-")]

    def _all_docker_containers(self) -> list[Any]:
        if self._docker is None:
            return []
        label = f"millrace.installation={self.settings.installation}"
        return self._docker.containers.list(all=True, filters={"label": label}, ignore_removed=True)

    def instances_with_containers(self) -> set[str]:
        below = self.settings.data / "instances"
        homes = [Path(_home(process)) for process in psutil.process_iter()]
        processes = {home.relative_to(below).parts[0] for home in homes if home.is_relative_to(below)}
        return processes | {container.name.removeprefix("millrace-") for container in self.docker_containers()}

    async def kill_container(self, instance_id: str) -> None:
        """As when memory runs out: with SIGKILL, and without telling the node."""
        below = str(self.settings.data / "instances" / instance_id)
        for process in self.model_processes():
            if _home(process).startswith(below):
                process.kill()
        for container in self.docker_containers():
            if container.name == f"millrace-{instance_id}":
                await asyncio.to_thread(container.kill)

    def _end_containers(self) -> None:
        for process in self.model_processes():
            process.kill()
        for container in self._all_docker_containers():
            container.remove(force=True)

    # --- models ---

    async def publish(
        self, folder: Path, name: str | None = None, *, files: Mapping[str, str] | None = None, **changes: Any
    ) -> str:
        """Publishes a Cog project for the process runtime and returns its Model, `owner/name`.

        `files` are written into a copy of the project first; `changes` are settings that a Version takes over, such as
        `setup_timeout_seconds`.
        """
        project = self.settings.data / "projects" / (name or folder.name)
        shutil.copytree(folder, project, ignore=shutil.ignore_patterns("__pycache__"))
        for path, text in (files or {}).items():
            (project / path).write_text(text)
        resources = replace(self.resources, settings=self.settings.model_copy(update=changes))
        await setup.publish(resources, self._publisher, project, [])
        return f"{setup.PUBLISHER}/{project.name}"

    async def publish_image(self, reference: str, name: str, **changes: Any) -> str:
        """Publishes an image of a registry, given by digest, for the docker runtime and returns its Model."""
        settings = self.settings.model_copy(update=changes)
        async with self.resources.database.transaction() as tx:
            model = await catalog.ensure_model(tx, self._publisher, name, CPU.sku, visibility="public")
            await catalog.publish(
                tx,
                model.id,
                "image",
                reference,
                config={},
                cog_version="unknown",
                slots=1,
                timeout_seconds=settings.prediction_timeout_seconds,
                setup_timeout_seconds=settings.setup_timeout_seconds,
            )
        return f"{setup.PUBLISHER}/{name}"

    async def wait_ready(self, *models: str) -> None:
        """Until the latest Version of each can run."""
        for model in models:
            await self._wait_ready(model)

    async def _wait_ready(self, model: str) -> None:
        owner, _, name = model.partition("/")
        deadline = time.monotonic() + READY_SECONDS
        while True:
            async with self.resources.database.autocommit() as tx:
                row = await catalog.get_model(tx, self._publisher, owner, name)
                version = await catalog.get_version(tx, row.latest_version_id)
            if version.status == VersionStatus.READY:
                return
            assert version.status != VersionStatus.FAILED, f"{model} could not be prepared: {version.status_reason}"
            assert time.monotonic() < deadline, f"{model} is not prepared.\n{self.processes['jobs'].tail()}"
            await asyncio.sleep(_LOOK_SECONDS)

    # --- processes ---

    def _processes(self) -> list[Process]:
        data = self.settings.data
        (data / "logs").mkdir(parents=True)
        environment = {**process_environment(), **_environment(self.settings)}

        def process(name: str, command: Sequence[str], **options: Any) -> Process:
            return Process(name, command, environment, data / "logs" / f"{name}.log", **options)

        return [
            process(
                "postgres",
                self._postgres.command,
                privileges=self._postgres.privileges,
                stop_signal=signal.SIGINT,
                before_start=self._postgres.before_start,
            ),
            process("redis", self._redis.command),
            *(
                process(name, (*self._prefixes.get(name, ()), sys.executable, "-m", *arguments))
                for name, arguments in PROCESSES.items()
            ),
        ]


def _settings(data: Path, postgres: Postgres, redis_url: str, changes: Mapping[str, Any]) -> Settings:
    return Settings(
        **{
            "data": data,
            "host": "127.0.0.1",
            "port": free_port(),
            # Its containers are its own, whatever else this machine runs.
            "installation": f"test-{new_id()[:12]}",
            "node_name": "test-node",
            "secret": new_id(),
            "admin_token": new_token(),
            "database_url": postgres.url,
            "redis_url": redis_url,
            "runtime": "process",
            "allow_private_webhooks": True,
            # Dozens of clients speak for one account here.
            "rate_creates_per_minute": 1_000_000,
            "rate_calls_per_minute": 1_000_000,
            "log_json": False,
            **QUICK,
            **changes,
        }
    )


def _environment(settings: Settings) -> dict[str, str]:
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return {f"MILLRACE_{name.upper()}": str(value) for name, value in given.items()}


async def _accepts(socket: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def _home(process: psutil.Process) -> str:
    try:
        return process.environ().get("HOME", "") if process.status() != psutil.STATUS_ZOMBIE else ""
    except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
        return ""
