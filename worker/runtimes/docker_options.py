"""What a model container is made of. Values only: nothing here speaks with an engine.

What keeps a model container in, and what does not:
- No capabilities, no new privileges, no published ports, no mounts but the caches of its owner (`worker/caches.py`) and
  its weights, which it can only read (`worker/weights.py`); limits on memory, processes, /tmp, /dev/shm and log size.
  It runs as root of its own namespaces unless the engine remaps users. Its writable layer is as large as the engine's
  disk, and so are those caches.
- Model containers share one bridge network on which they cannot reach each other (`enable_icc=false`), and Docker keeps
  them off every other Docker network, so a Postgres or Redis that lives on one, or on a unix socket, is out of reach.
- Each container owns 169.254.169.254 itself, and with it the route to 169.254.0.0/16: the metadata services of the
  clouds cannot be reached, and without NET_ADMIN it cannot undo that. This needs no firewall rule.
- The internet stays reachable, since models fetch weights and input files; so do the local network and whatever listens
  on this machine's own addresses. To close those, an operator adds rules to Docker's DOCKER-USER and INPUT chains, but
  has to let containers reach the node, which listens on the gateway of their network.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psutil
from docker.types import DeviceRequest, EndpointConfig, LogConfig

from worker import caches
from worker.runtimes import launch
from worker.runtimes.base import ContainerSpec
from worker.runtimes.docker_images import ImageFacts

GIB = 1024**3

# Cog itself runs containers with 6 GB of shared memory: torch's data loaders need it.
SHM_BYTES = 6 * GIB
# Cog leaves the files of every prediction behind in /tmp.
TMP_BYTES = 8 * GIB
PROCESSES = 4096
LOG_OPTIONS = {"max-size": "10m", "max-file": "2"}

METADATA_ADDRESS = "169.254.169.254"

ALIAS = "millrace.alias"
VERSION = "millrace.version"
GPUS = "millrace.gpus"
MADE_OF = "millrace.made-of"
OWNER = "millrace.owner"

#: Where a container finds the caches of its owner.
CACHES = "/var/cache/millrace"


@dataclass(frozen=True, slots=True)
class Engine:
    """What there is to make a container in. Networks of one name may follow each other, so there is an id."""

    api_version: str
    network: str
    network_id: str


@dataclass(frozen=True, slots=True)
class Cache:
    """The volume of an owner, and the folder in it of what is compiled for these GPUs."""

    volume: str
    kind: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything but who a container is for. Two of one digest may stand in for each other."""

    spec: ContainerSpec
    options: dict[str, Any]
    files: dict[str, bytes]
    folders: tuple[str, ...]
    cache: Cache | None
    digest: str

    def named(self, name: str, alias: str, labels: dict[str, str]) -> dict[str, Any]:
        """The arguments with which it is created."""
        labels = {**labels, ALIAS: alias, VERSION: self.spec.version_id, GPUS: ",".join(self.spec.gpu_uuids)}
        return {
            **self.options,
            "name": name,
            "command": launch.command(self.spec.uploads_url, alias),
            "labels": {**labels, MADE_OF: self.digest},
        }


def recipe(
    spec: ContainerSpec, engine: Engine, image: ImageFacts, cache: Cache | None, weights: dict[str, dict[str, str]]
) -> Recipe:
    """Who is not root there could write to no volume, and gets no cache. `weights`: volumes that it reads."""
    cache = cache if image.is_root else None
    written = {cache.volume: {"bind": CACHES, "mode": "rw"}} if cache else {}
    options = {**_options(spec, engine, image, cache), "volumes": {**weights, **written}}
    schema = json.dumps(launch.streaming_schema(spec.artifact.openapi_schema))
    parts = [options, schema, engine.network_id, spec.version_id, spec.uploads_url, launch.command("", "")]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    folders = (f"{CACHES}/{cache.kind}".lstrip("/"),) if cache else ()
    return Recipe(spec, options, {f"src/{launch.SCHEMA_FILE}": schema.encode()}, folders, cache, digest)


def volume_of(owner: str, labels: Mapping[str, str]) -> str:
    """Of this owner on this node: two on one engine do not trust each other either."""
    told = json.dumps([owner, labels], sort_keys=True)
    return f"millrace-cache-{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def _options(spec: ContainerSpec, engine: Engine, image: ImageFacts, cache: Cache | None) -> dict[str, Any]:
    memory = spec.memory_bytes or psutil.virtual_memory().total
    environment = _cached(spec, image, cache) | launch.environment(spec)
    gpus = [DeviceRequest(device_ids=list(spec.gpu_uuids), capabilities=[["gpu"]])] if spec.gpu_uuids else None
    if not gpus:
        # CUDA images ask for all GPUs, and get them where nvidia is the engine's default runtime.
        environment["NVIDIA_VISIBLE_DEVICES"] = "void"
    return {
        "image": spec.artifact.reference,
        "environment": environment,
        "network": engine.network,
        "networking_config": {
            engine.network: EndpointConfig(engine.api_version, link_local_ips=[METADATA_ADDRESS]),
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
        "init": not image.has_entrypoint,
        # With explicit shutdown Cog ignores SIGTERM, so that only an interrupt ends it in time.
        "stop_signal": "SIGINT",
    }


def _cached(spec: ContainerSpec, image: ImageFacts, cache: Cache | None) -> dict[str, str]:
    if cache is None:
        return {}
    environment = {*image.environment, *spec.environment}
    return caches.variables(CACHES, cache.kind, environment=environment, brings=image.brings)
