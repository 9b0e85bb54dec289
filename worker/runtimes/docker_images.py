"""Images of a Docker engine: pulled by digest, and looked into once. Knows no containers but the one it looks with."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Protocol, TypeVar

import docker
from docker.errors import DockerException, NotFound

from core.errors import Unavailable
from worker import caches
from worker.runtimes.base import ArtifactUnavailable

T = TypeVar("T")

# An image of tens of GB reports progress while it travels, but may extract one large layer in silence.
PULL_SILENCE_SECONDS = 900
# Two pulls share the disk and the line well, and leave threads for everything else.
CONCURRENT_PULLS = 2
#: Of who runs in an image that says nothing else, as Cog's do.
HOME = PurePosixPath("/root")
_ROOT = ("", "0", "root")


class Call(Protocol):
    """What goes wrong becomes `Unavailable`, with what was being done."""

    def __call__(self, doing: str, call: Callable[[docker.DockerClient], T]) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """`brings`: the folders of `worker.caches` that are in it, filled; `is_root`: who runs in it."""

    has_entrypoint: bool
    environment: frozenset[str]
    brings: frozenset[str]
    is_root: bool


class Images:
    """`labels` are those of our containers: one that a crash leaves behind is found by them."""

    def __init__(self, call: Call, labels: dict[str, str]) -> None:
        self._call = call
        self._labels = labels
        self._pulls = asyncio.Semaphore(CONCURRENT_PULLS)
        # What is named by its digest does not change.
        self._known: dict[str, ImageFacts] = {}

    async def ensure(self, reference: str) -> None:
        repository, _, digest = reference.partition("@")
        if not digest:
            raise ArtifactUnavailable(
                f"The image {reference} is not pinned: name it as host/repository@sha256:<digest>."
            )
        if not await self.are_here(reference):
            async with self._pulls:
                if not await self.are_here(reference):
                    await self._pull(repository, digest)
        await self.facts(reference)

    async def are_here(self, reference: str) -> bool:
        return await self._call("look for an image", lambda client: _is_here(client, reference))

    async def facts(self, reference: str) -> ImageFacts:
        if reference not in self._known:
            look = partial(_facts, reference=reference, labels=self._labels)
            self._known[reference] = await self._call("look into an image", look)
        return self._known[reference]

    async def _pull(self, repository: str, digest: str) -> None:
        try:
            await self._call("pull it", lambda _client: _pull(repository, digest))
        except Unavailable as error:
            raise ArtifactUnavailable(f"The image {repository}@{digest} is not to be had. {error}") from error


def _is_here(client: docker.DockerClient, reference: str) -> bool:
    try:
        client.images.get(reference)
    except NotFound:
        return False
    return True


def _pull(repository: str, digest: str) -> None:
    """Reads the progress to its end: the engine reports a failure there, under a 200."""
    with closing(docker.from_env(timeout=PULL_SILENCE_SECONDS)) as patient:
        for step in patient.api.pull(repository, tag=digest, stream=True, decode=True):
            if "error" in step:
                raise DockerException(step["error"])


def _facts(client: docker.DockerClient, reference: str, labels: dict[str, str]) -> ImageFacts:
    config: dict[str, Any] = client.images.get(reference).attrs["Config"]
    return ImageFacts(
        has_entrypoint=bool(config.get("Entrypoint")),
        environment=frozenset(line.partition("=")[0] for line in config.get("Env") or ()),
        brings=frozenset(_brought(client, reference, labels)),
        is_root=config.get("User", "").partition(":")[0] in _ROOT,
    )


def _brought(client: docker.DockerClient, reference: str, labels: dict[str, str]) -> list[str]:
    """Caches that were filled as the image was built. Only of a container, which never runs, can files be asked."""
    container = client.containers.create(reference, command=["never"], network_mode="none", labels=labels)
    try:
        url = f"{client.api.base_url}/v{client.api.api_version}/containers/{container.id}/archive"
        answers = {
            cache.folder: client.api.head(url, params={"path": str(HOME / cache.place)}).status_code
            for cache in caches.FETCHED
        }
    finally:
        container.remove(force=True, v=True)
    return [folder for folder, status in answers.items() if status == HTTPStatus.OK]
