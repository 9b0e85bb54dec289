"""The protocol that every container runtime speaks, and the values it speaks in.

Knows nothing of predictions or Postgres: the node decides what should run, a runtime makes it so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a Version is made of: `kind` is `image` (reference by digest) or `bundle` (content digest, 64 hex)."""

    kind: str
    reference: str
    config: Mapping[str, Any]
    openapi_schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything needed to run one Instance; deciding it and running it are separate."""

    instance_id: str
    version_id: str
    artifact: Artifact
    slots: int
    uploads_url: str | None
    """Where the container puts its output files, in the folder of its own `alias`; None: it gives them inline."""
    gpu_uuids: tuple[str, ...] = ()
    memory_bytes: int | None = None
    setup_timeout_seconds: int | None = None
    owner: str = ""
    """Whose caches it may use; none: nobody's."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """A container of ours, running or exited. `gpu_uuids` are what it holds until it is gone."""

    id: str
    instance_id: str
    base_url: str
    gpu_uuids: tuple[str, ...] = ()
    alias: str = ""
    """What it calls itself where it uploads: the Instance, or what it was called before it had one."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended, as a sentence an operator can act on."""

    code: int | None
    reason: str


class ArtifactUnavailable(Exception):
    """The image or bundle cannot be made ready here; the message says what to do."""


class Runtime(Protocol):
    """Runs containers of one artifact kind. Only containers with our installation and node labels are touched."""

    name: str
    artifact_kind: str

    async def callback_host(self) -> str:
        """The host name or address by which a container reaches this node's endpoint."""

    async def ensure(self, artifact: Artifact) -> None:
        """Make the artifact startable here: pull the image, or unpack the bundle and build its environment."""

    async def start(self, spec: ContainerSpec) -> Container:
        """Start it and return at once; readiness is the Cog client's business."""

    async def keep_ready(self, specs: Sequence[ContainerSpec]) -> None:
        """Of containers that could be these but for their Instance, which is not known yet, makes one that is missing,
        so that `start` has less to do; removes those that could not. Where that is not worth it, does nothing."""

    async def list(self) -> list[Container]:
        """Every container of this node that has an Instance, exited ones included: what a restarted node adopts."""

    async def exited(self, container: Container) -> Exit | None:
        """None while it runs."""

    async def ended(self, container: Container) -> None:
        """Returns as soon as it seems to have ended, which `exited` then says; if that is not heard of, never."""

    async def logs(self, container: Container, tail_bytes: int = 65536) -> str:
        """The end of what it wrote to stdout and stderr."""

    async def stop(self, container: Container, grace_seconds: float) -> None:
        """Ask, wait `grace_seconds`, then kill; when this returns the container is gone, and so are its files."""

    async def owner(self, pid: int) -> str | None:
        """The Instance of ours that the process of this machine belongs to; None: none."""

    async def close(self) -> None: ...
