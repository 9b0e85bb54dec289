"""Runs image Versions as Docker containers. The only importer of `docker`.

Knows engines, labels, limits and networks; nothing of predictions. The SDK is synchronous, so each call takes a thread.

What keeps a model container in, and what does not:
- No capabilities, no new privileges, no host mounts, no published ports; limits on memory, processes, /tmp, /dev/shm
  and log size. It runs as root of its own namespaces unless the engine remaps users. Its writable layer is as large as
  the engine's disk.
- Model containers share one bridge network on which they cannot reach each other (`enable_icc=false`), and Docker keeps
  them off every other Docker network, so a Postgres or Redis that lives on one, or on a unix socket, is out of reach.
- Each container owns 169.254.169.254 itself, and with it the route to 169.254.0.0/16: the metadata services of the
  clouds cannot be reached, and without NET_ADMIN it cannot undo that. This needs no firewall rule.
- The internet stays reachable, since models fetch weights and input files; so do the local network and whatever listens
  on this machine's own addresses. To close those, an operator adds rules to Docker's DOCKER-USER and INPUT chains, but
  has to let containers reach the node, which listens on the gateway of their network.
"""

import asyncio
import contextlib
import io
import json
import math
import tarfile
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import docker
import psutil
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container as DockerContainer
from docker.models.networks import Network
from docker.models.resource import Collection
from docker.types import DeviceRequest, EndpointConfig, LogConfig
from requests import RequestException

from core.errors import Unavailable
from core.settings import Settings
from worker.runtimes import addresses, cgroups, exits, launch
from worker.runtimes.base import Artifact, ArtifactUnavailable, Container, ContainerSpec, Exit
from worker.runtimes.departures import Departures, Stream

T = TypeVar("T")
GIB = 1024**3

# The engine answers within milliseconds; on a machine that is swapping, within a minute or never.
ENGINE_SECONDS = 60
# An image of tens of GB reports progress while it travels, but may extract one large layer in silence.
PULL_SILENCE_SECONDS = 900
# Where nothing ends, the engine says nothing; it is asked anew, lest a dead connection be waited on for ever.
EVENTS_SILENCE_SECONDS = 3600
# Two pulls share the disk and the line well, and leave threads for everything else.
CONCURRENT_PULLS = 2
# After `stop` the engine may still be unmounting.
REMOVAL_SECONDS = 30

# Cog itself runs containers with 6 GB of shared memory: torch's data loaders need it.
SHM_BYTES = 6 * GIB
# Cog leaves the files of every prediction behind in /tmp.
TMP_BYTES = 8 * GIB
PROCESSES = 4096
LOG_OPTIONS = {"max-size": "10m", "max-file": "2"}
LOG_LINES = 5000

METADATA_ADDRESS = "169.254.169.254"
INTER_CONTAINER = "com.docker.network.bridge.enable_icc"

INSTALLATION = "millrace.installation"
NODE = "millrace.node"
INSTANCE = "millrace.instance"
VERSION = "millrace.version"
GPUS = "millrace.gpus"


class DockerRuntime:
    """Containers are reached at their address on `settings.docker_network`; nothing is published on the machine."""

    name = "docker"
    artifact_kind = "image"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._labels = {INSTALLATION: settings.installation, NODE: settings.node}
        self._client: docker.DockerClient | None = None
        self._connecting = asyncio.Lock()
        self._network_lock = asyncio.Lock()
        self._pulls = asyncio.Semaphore(CONCURRENT_PULLS)
        self._departures = Departures(self._listen)

    async def answers(self) -> bool:
        """Whether a Docker engine is there at all."""
        try:
            await self._call("answer", lambda client: client.ping())
        except Unavailable:
            return False
        return True

    async def callback_host(self) -> str:
        if self._settings.node_address:
            return self._settings.node_address
        network = await self._network()
        isolated = network.attrs["Options"].get(INTER_CONTAINER) == "false"
        config = next(config for config in network.attrs["IPAM"]["Config"] if ":" not in config["Subnet"])
        return addresses.towards(network.name, config["Subnet"], config.get("Gateway"), isolated)

    async def ensure(self, artifact: Artifact) -> None:
        repository, _, digest = artifact.reference.partition("@")
        if not digest:
            raise ArtifactUnavailable(
                f"The image {artifact.reference} is not pinned: name it as host/repository@sha256:<digest>."
            )
        async with self._pulls:
            if not await self._call("look for an image", lambda client: _get(client.images, artifact.reference)):
                await self._pull(repository, digest)

    async def start(self, spec: ContainerSpec) -> Container:
        network = await self._network()
        container = await self._call(
            f"create a container of {spec.artifact.reference}",
            lambda client: client.containers.create(**self._create_options(client, spec, network)),
        )
        try:
            await self._call("start a container", lambda _client: _start(container, spec.artifact))
        except Unavailable:
            await self._call("remove a container", lambda _client: _remove(container))
            raise
        return _ours(container)

    async def list(self) -> list[Container]:
        labels = [f"{key}={value}" for key, value in self._labels.items()]
        found = await self._call(
            "list containers",
            lambda client: client.containers.list(all=True, filters={"label": labels}, ignore_removed=True),
        )
        return [_ours(container) for container in found]

    async def exited(self, container: Container) -> Exit | None:
        found = await self._find(container)
        if found is None:
            return Exit(None, "The container was removed behind the node's back.")
        return _exit_of(found.attrs)

    async def ended(self, container: Container) -> None:
        while True:
            await self._departures.of(container.id)
            if await self.exited(container) is not None:
                return

    async def logs(self, container: Container, tail_bytes: int = 65536) -> str:
        found = await self._find(container)
        if found is None:
            return ""
        output = await self._call("read logs", lambda _client: found.logs(tail=LOG_LINES))
        return output[-tail_bytes:].decode(errors="replace")

    async def stop(self, container: Container, grace_seconds: float) -> None:
        found = await self._find(container)
        if found is not None:
            await self._call("stop a container", lambda _client: _stop(found, math.ceil(grace_seconds)))

    async def owner(self, pid: int) -> str | None:
        container_id = cgroups.container_of(pid)
        if container_id is None:
            return None
        found = await self._call("inspect a container", lambda client: _get(client.containers, container_id))
        ours = found is not None and self._labels.items() <= found.labels.items()
        return found.labels[INSTANCE] if ours else None

    async def close(self) -> None:
        await asyncio.to_thread(self._departures.close)
        if self._client is not None:
            await asyncio.to_thread(self._client.close)

    async def _call(self, doing: str, call: Callable[[docker.DockerClient], T]) -> T:
        """Runs `call` in a thread; what goes wrong with the engine becomes a sentence."""
        try:
            return await asyncio.to_thread(call, await self._connected())
        except (DockerException, RequestException) as error:
            raise Unavailable(f"Docker could not {doing}: {_reason(error)}") from error

    async def _connected(self) -> docker.DockerClient:
        async with self._connecting:
            if self._client is None:
                self._client = await asyncio.to_thread(docker.from_env, timeout=ENGINE_SECONDS)
            return self._client

    def _listen(self) -> Stream:
        labels = [f"{key}={value}" for key, value in self._labels.items()]
        ends = {"type": "container", "event": ["die", "destroy"], "label": labels}
        return docker.from_env(timeout=EVENTS_SILENCE_SECONDS).events(decode=True, filters=ends)

    async def _pull(self, repository: str, digest: str) -> None:
        try:
            await self._call("pull it", lambda _client: _pull(repository, digest))
        except Unavailable as error:
            raise ArtifactUnavailable(f"The image {repository}@{digest} is not to be had. {error}") from error

    async def _find(self, container: Container) -> DockerContainer | None:
        """None where it is gone, and where it is not ours: a foreign container is never touched."""
        found = await self._call("inspect a container", lambda client: _get(client.containers, container.id))
        if found is None:
            return None
        return found if self._labels.items() <= found.labels.items() else None

    async def _network(self) -> Network:
        """Looked up each time: `docker network prune` removes a network that no container uses."""
        name = self._settings.docker_network
        async with self._network_lock:
            found = await self._call("inspect a network", lambda client: _get(client.networks, name))
            return found or await self._call("create a network", lambda client: _create_network(client, name))

    def _create_options(self, client: docker.DockerClient, spec: ContainerSpec, network: Network) -> dict[str, Any]:
        image = client.images.get(spec.artifact.reference)
        memory = spec.memory_bytes or psutil.virtual_memory().total
        environment = launch.environment(spec)
        gpus = [DeviceRequest(device_ids=list(spec.gpu_uuids), capabilities=[["gpu"]])] if spec.gpu_uuids else None
        if not gpus:
            # CUDA images ask for all GPUs, and get them where nvidia is the engine's default runtime.
            environment["NVIDIA_VISIBLE_DEVICES"] = "void"
        return {
            "image": spec.artifact.reference,
            "name": f"millrace-{spec.instance_id}",
            "command": launch.command(spec.upload_url),
            "environment": environment,
            "labels": {
                **self._labels,
                INSTANCE: spec.instance_id,
                VERSION: spec.version_id,
                GPUS: ",".join(spec.gpu_uuids),
            },
            "network": network.name,
            "networking_config": {
                network.name: EndpointConfig(client.api.api_version, link_local_ips=[METADATA_ADDRESS]),
            },
            "device_requests": gpus,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "mem_limit": spec.memory_bytes,
            "memswap_limit": spec.memory_bytes,
            "pids_limit": PROCESSES,
            # Both live in memory and count against the limit.
            "shm_size": min(SHM_BYTES, memory // 2),
            # torch and triton compile into /tmp and load from there, so it has to be executable.
            "tmpfs": {"/tmp": f"size={min(TMP_BYTES, memory // 2)},mode=1777,exec"},
            "log_config": LogConfig(type=LogConfig.types.JSON, config=LOG_OPTIONS),
            # Images built by Cog bring tini as their entrypoint; others get Docker's.
            "init": not image.attrs["Config"].get("Entrypoint"),
            # With explicit shutdown Cog ignores SIGTERM, so that only an interrupt ends it in time.
            "stop_signal": "SIGINT",
        }


def _get(collection: Collection, key: str) -> Any:
    try:
        return collection.get(key)
    except NotFound:
        return None


def _pull(repository: str, digest: str) -> None:
    """Reads the progress to its end: the engine reports a failure there, under a 200."""
    with contextlib.closing(docker.from_env(timeout=PULL_SILENCE_SECONDS)) as patient:
        for step in patient.api.pull(repository, tag=digest, stream=True, decode=True):
            if "error" in step:
                raise DockerException(step["error"])


def _start(container: DockerContainer, artifact: Artifact) -> None:
    """The schema is copied in, not mounted: a node that runs in a container has no path the engine could mount."""
    container.put_archive("/", _schema_archive(artifact))
    container.start()
    container.reload()


def _stop(container: DockerContainer, grace_seconds: int) -> None:
    with contextlib.suppress(NotFound):
        container.stop(timeout=grace_seconds)
        _remove(container)


def _remove(container: DockerContainer) -> None:
    try:
        container.remove(force=True, v=True)
    except APIError as error:
        if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise
    # A second removal is answered with a conflict while the engine is still busy with the first.
    with contextlib.suppress(NotFound):
        container.wait(timeout=REMOVAL_SECONDS, condition="removed")


def _schema_archive(artifact: Artifact) -> bytes:
    content = json.dumps(launch.streaming_schema(artifact.openapi_schema)).encode()
    entry = tarfile.TarInfo(f"src/{launch.SCHEMA_FILE}")
    entry.size, entry.mode = len(content), 0o644
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _create_network(client: docker.DockerClient, name: str) -> Network:
    options = {INTER_CONTAINER: "false"}
    return client.networks.create(name, driver="bridge", options=options, labels={"millrace.network": name})


def _ours(container: DockerContainer) -> Container:
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    address = next((network["IPAddress"] for network in networks if network["IPAddress"]), "")
    return Container(
        id=container.id,
        instance_id=container.labels[INSTANCE],
        base_url=f"http://{address}:{launch.COG_PORT}" if address else "",
        gpu_uuids=tuple(filter(None, container.labels[GPUS].split(","))),
    )


def _exit_of(attributes: dict[str, Any]) -> Exit | None:
    state = attributes["State"]
    if state["Status"] == "created":
        return Exit(None, state["Error"] or "It was created but never started: its node stopped in between.")
    if state["Status"] not in ("exited", "dead"):
        return None
    reason = exits.sentence(state["ExitCode"], attributes["HostConfig"]["Memory"], state["OOMKilled"])
    return Exit(state["ExitCode"], state["Error"] or reason)


def _reason(error: Exception) -> str:
    return (error.explanation if isinstance(error, APIError) else None) or str(error)
