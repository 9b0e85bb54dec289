"""Runs bundles as plain processes: the model's venv, a private copy of its project, a Cog server on loopback.

No isolation, and no limit on memory: a model can do what this user can. For one trusted user, CI, and GPU machines
without a container engine. Knows nothing of predictions; the Cog client talks to the servers this starts.
"""

import asyncio
import errno
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from core.bundles import BundleError, digest, unpack
from core.cog_config import CogConfig, read_config
from core.log import get_logger
from core.settings import Settings
from worker import caches, instances
from worker.environments import Environment, Environments, full_disk
from worker.inspection import Inspection, inspect_project
from worker.instances import InstanceFolder, Record
from worker.locks import exclusive
from worker.model_process import model_environment
from worker.runtimes import departures, exits, launch
from worker.runtimes.base import Artifact, ArtifactUnavailable, Container, ContainerSpec, Exit

# After SIGKILL only a process stuck in the kernel (a wedged driver, a dead network disk) is still there.
KILL_TIMEOUT_SECONDS = 10
POLL_SECONDS = 0.02
OOM_SCORE = "500"
LOOPBACK = "127.0.0.1"
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DIGEST = re.compile(r"[0-9a-f]{64}")

Fetch = Callable[[str, Path], Awaitable[None]]
log = get_logger()


class ProcessRuntime:
    """`fetch(digest, path)` writes the bundle's archive to `path`, or raises `ArtifactUnavailable`."""

    name = "process"
    artifact_kind = "bundle"

    def __init__(self, settings: Settings, fetch: Fetch) -> None:
        data = settings.data.absolute()
        self._installation = settings.installation
        self._node = settings.node
        self._fetch = fetch
        self._bundles = data / "bundles"
        self._instances = data / "instances"
        self._caches = data / "caches"
        self._environments = Environments(data / "environments")
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        _warn()

    async def callback_host(self) -> str:
        return LOOPBACK

    async def ensure(self, artifact: Artifact) -> None:
        await self._environment(await self._project(artifact.reference))

    async def inspect(self, reference: str) -> Inspection:
        """What goes in and what comes out of a bundle, asked in its own environment."""
        project = await self._project(reference)
        return await inspect_project(await self._environment(project), project, read_config(project))

    async def start(self, spec: ContainerSpec) -> Container:
        folder = self._folder(spec.instance_id)
        bundle = await self._project(spec.artifact.reference)
        environment, config = await self._environment(bundle), read_config(bundle)
        if folder.read_record() is not None:
            raise FileExistsError(f"Instance {spec.instance_id} is here already; stop it first.")
        # The record comes first: whatever a crash leaves behind from here on is found by `list` and removed by `stop`.
        record = Record(self._installation, self._node, spec.instance_id, _free_port(), spec.gpu_uuids)
        folder.write_record(record)
        try:
            cached = await asyncio.to_thread(self._caches_of, spec, config)
            await asyncio.to_thread(folder.prepare, bundle, launch.streaming_schema(spec.artifact.openapi_schema))
            child = _spawn(folder, environment, config, spec, record.port, cached)
            self._children[spec.instance_id] = child
            folder.write_record(record.running_as(child.pid))
        except BaseException:
            await self.stop(record.container, grace_seconds=0)
            raise
        return record.container

    async def keep_ready(self, specs: Sequence[ContainerSpec]) -> None:
        """Nothing: of a boot, what could be done ahead takes 17 ms."""

    async def list(self) -> list[Container]:
        folders = sorted(self._instances.iterdir()) if self._instances.exists() else []
        records = [InstanceFolder(path).read_record() for path in folders]
        return [record.container for record in records if record and self._is_ours(record)]

    async def exited(self, container: Container) -> Exit | None:
        folder = self._folder(container.instance_id)
        record = folder.read_record()
        if record is None:
            return Exit(None, "It was stopped, and its folder is gone.")
        folder.bound_log()
        child = self._children.get(container.instance_id)
        if child is not None:
            code = child.poll()
            return None if code is None else Exit(code, _reason(code))
        if record.pid is None:
            return Exit(None, "The node ended while it was starting it; start another.")
        if record.process() is None:
            return Exit(None, "It ended with an unknown code: the node was restarted. Its logs may say why.")
        return None

    async def ended(self, container: Container) -> None:
        record = self._folder(container.instance_id).read_record()
        leader = record and record.process()
        if leader is not None:
            await departures.until_gone(leader.pid, lambda: record.process() is not None)

    async def logs(self, container: Container, tail_bytes: int = 65536) -> str:
        return await asyncio.to_thread(self._folder(container.instance_id).tail, tail_bytes)

    async def stop(self, container: Container, grace_seconds: float) -> None:
        folder = self._folder(container.instance_id)
        record = folder.read_record()
        if record is None:
            return
        if not self._is_ours(record):
            raise PermissionError(
                f"{container.id} belongs to node {record.node} of {record.installation}; not touched."
            )
        leader = record.process()
        if leader is not None and grace_seconds > 0:
            # Cog's servers ignore SIGTERM when told to await an explicit shutdown, and heed SIGINT; but sent to the
            # whole group it also hits Cog's worker, and Cog 0.23 then hangs.
            with suppress(psutil.NoSuchProcess):
                leader.send_signal(signal.SIGINT)
            await self._until(lambda: record.process() is None, grace_seconds)
        await self._kill(folder, container)
        child = self._children.pop(container.instance_id, None)
        if child is not None:
            await asyncio.to_thread(child.wait)
        await asyncio.to_thread(shutil.rmtree, folder.path)

    async def owner(self, pid: int) -> str | None:
        """That of itself, or of what started it: a model's children may hide where they are from."""
        return await asyncio.to_thread(instances.owner_of, pid, self._instances)

    async def close(self) -> None:
        """Containers go on running: the node's next start adopts them."""
        self._children.clear()

    def _caches_of(self, spec: ContainerSpec, config: CogConfig) -> dict[str, str]:
        if not spec.owner:
            return {}
        if not SAFE_NAME.fullmatch(spec.owner):
            raise ValueError(f"{spec.owner!r} cannot name a folder, so it cannot name an owner.")
        return caches.prepare(self._caches, spec.owner, spec.gpu_uuids, config.environment)

    async def _project(self, reference: str) -> Path:
        """The unpacked bundle, fetched once and checked against its digest."""
        if not DIGEST.fullmatch(reference):
            raise ArtifactUnavailable(f"{reference!r} is not the digest of a bundle: 64 hex digits.")
        project = self._bundles / reference
        if project.exists():
            return project
        async with exclusive(self._bundles / f"{reference}.lock"):
            if not project.exists():
                await self._unpack(reference, project)
        return project

    async def _unpack(self, reference: str, project: Path) -> None:
        """Beside its place, then moved there: a project is there whole or not at all."""
        archive, partial = project.with_suffix(".tar.gz"), project.with_suffix(".partial")
        await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)
        try:
            await self._fetch(reference, archive)
            await asyncio.to_thread(unpack, archive, partial)
            found = await asyncio.to_thread(digest, partial)
            if found != reference:
                raise BundleError(f"The archive of bundle {reference} holds {found}; publish the model again.")
            partial.rename(project)
        except BundleError as error:
            raise ArtifactUnavailable(str(error)) from error
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise ArtifactUnavailable(full_disk(self._bundles)) from error
            raise
        finally:
            archive.unlink(missing_ok=True)
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)

    async def _environment(self, project: Path) -> Environment:
        try:
            config = read_config(project)
        except BundleError as error:
            raise ArtifactUnavailable(str(error)) from error
        return await self._environments.ensure(config)

    async def _kill(self, folder: InstanceFolder, container: Container) -> None:
        """Until none is left: one that is killed late may have forked in time."""

        def kill_all() -> bool:
            members = folder.members()
            for process in members:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            return not members

        if not await self._until(kill_all, KILL_TIMEOUT_SECONDS):
            pids = ", ".join(str(process.pid) for process in folder.members())
            raise TimeoutError(
                f"Processes {pids} of instance {container.instance_id} survive SIGKILL; they hang in the kernel, and "
                "their GPUs are not free until this machine is restarted."
            )

    async def _until(self, done: Callable[[], bool], timeout_seconds: float) -> bool:
        deadline = time.monotonic() + timeout_seconds
        while not await asyncio.to_thread(done):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _is_ours(self, record: Record) -> bool:
        return (record.installation, record.node) == (self._installation, self._node)

    def _folder(self, instance_id: str) -> InstanceFolder:
        if not SAFE_NAME.fullmatch(instance_id):
            raise ValueError(f"{instance_id!r} cannot name a folder, so it cannot name an instance.")
        return InstanceFolder(self._instances / instance_id)


@cache
def _warn() -> None:
    """Once in a process, however many runtimes it makes."""
    log.warning(
        "Models run as plain processes without isolation: they can read and change what this user can. "
        "Run only models you trust here, or use the docker runtime."
    )


def _spawn(
    folder: InstanceFolder,
    environment: Environment,
    config: CogConfig,
    spec: ContainerSpec,
    port: int,
    cached: dict[str, str],
) -> subprocess.Popen[bytes]:
    """Not by asyncio, which kills its children when the node's loop closes: this one shall outlive it."""
    command = [*launch.command(spec.uploads_url, spec.instance_id, str(environment.python)), "--host", LOOPBACK]
    variables = {
        **cached,
        **config.environment,
        **launch.environment(spec, port),
        "TMPDIR": str(folder.tmp),
        "CUDA_VISIBLE_DEVICES": ",".join(spec.gpu_uuids),
        "COG_PREDICT_TYPE_STUB": config.reference,
    }
    if config.train_reference:
        variables["COG_TRAIN_TYPE_STUB"] = config.train_reference
    with folder.log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=folder.work,
            env=model_environment(environment.path, folder.tmp, variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Where memory runs out, the model has to go, not Postgres or this node. What it starts inherits this.
    with suppress(FileNotFoundError, ProcessLookupError):
        Path(f"/proc/{child.pid}/oom_score_adj").write_text(OOM_SCORE)
    return child


def _free_port() -> int:
    """Free now. Should another take it first, the server ends at once and says so in its log."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def _reason(code: int) -> str:
    """`code` as `subprocess` gives it: -n for signal n. Behind our back only the kernel and operators send SIGKILL."""
    if code == -signal.SIGKILL:
        return "It was killed by SIGKILL, perhaps because this machine ran out of memory."
    return exits.sentence(code if code >= 0 else 128 - code)
