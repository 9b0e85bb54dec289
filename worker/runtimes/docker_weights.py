"""Volumes with the weights of a Version, filled from its registry before its container starts, which only reads them.

A volume, not a folder: a node that runs in a container has no path the engine could mount. It is filled through a
container that never runs, and ready once the file is there that Cog's server looks for.
"""

import asyncio
import hashlib
import io
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http import HTTPStatus
from pathlib import Path

import docker
import requests
from docker.errors import APIError, NotFound
from docker.models.containers import Container as DockerContainer

from core.clock import monotonic
from core.errors import Unavailable
from core.log import get_logger
from worker import caches, weights
from worker.registry import blob_url
from worker.runtimes.base import Artifact, ArtifactUnavailable
from worker.runtimes.docker_images import PULL_SILENCE_SECONDS, Call
from worker.weights import Weights

log = get_logger()

_FOLDER = "/millrace-weights"
_CHUNK_BYTES = 1024 * 1024
_CONNECT_SECONDS, _SILENCE_SECONDS = 10, 60
#: Two share the line and the disk well. Who sends next to nothing is not waited for, as others may be behind them.
_AT_ONCE = 2
_LEAST_BYTES_PER_SECOND = 50_000
_PATIENCE_SECONDS = 60.0


class DockerWeights:
    """`folder` remembers when each was last asked for, since an engine does not. `labels` are those of our volumes."""

    def __init__(self, call: Call, labels: dict[str, str], folder: Path) -> None:
        self._call = call
        self._labels = labels
        self._folder = folder
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._filling: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ready: set[str] = set()

    def mounts(self, artifact: Artifact) -> dict[str, dict[str, str]]:
        """As an engine is told of them. It copies nothing into them of what the image has there."""
        return {name: {"bind": each.target, "mode": "ro,nocopy"} for name, each in self._named(artifact).items()}

    async def ensure(self, artifact: Artifact) -> None:
        """Raises `ArtifactUnavailable`."""
        for name, each in self._named(artifact).items():
            await asyncio.to_thread(caches.use, self._folder, name)
            if name in self._ready:
                continue
            async with self._filling[name], self._places:
                if name not in self._ready:
                    await self._fill(artifact.reference, each, name)
                    self._ready.add(name)
                    await self._remove_unused()

    def _named(self, artifact: Artifact) -> dict[str, Weights]:
        repository = artifact.reference.partition("@")[0]
        return {each.named(repository, self._labels): each for each in weights.of(artifact.config)}

    async def _fill(self, image: str, wanted: Weights, name: str) -> None:
        await self._call("make a volume", lambda client: client.volumes.create(name, labels=self._labels))
        try:
            await self._call("fill a volume", lambda _client: _fill(image, wanted, name, self._labels))
        except Unavailable as error:
            raise ArtifactUnavailable(f"The weights of {image} are not to be had. {error}") from error

    async def _remove_unused(self) -> None:
        for old in await asyncio.to_thread(caches.unused, self._folder):
            self._ready.discard(old.name)
            is_gone = await self._call("remove a volume", partial(remove_volume, old.name))
            await asyncio.to_thread(old.rmdir if is_gone else old.touch)


def remove_volume(name: str, client: docker.DockerClient) -> bool:
    """False: a container has it."""
    try:
        client.volumes.get(name).remove()
    except APIError as error:
        if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise
        return error.status_code == HTTPStatus.NOT_FOUND
    return True


def _fill(image: str, wanted: Weights, name: str, labels: dict[str, str]) -> None:
    """What a crash has left half full is filled again, over what is there."""
    with closing(docker.from_env(timeout=PULL_SILENCE_SECONDS)) as client:
        volumes = {name: {"bind": _FOLDER, "mode": "rw,nocopy"}}
        container = client.containers.create(
            image, command=["never"], network_mode="none", labels=labels, volumes=volumes
        )
        try:
            if _is_ready(container):
                return
            for digest in wanted.layers:
                log.info("fetching weights", image=image, layer=digest)
                container.put_archive(_FOLDER, _layer(blob_url(image, digest), digest))
            container.put_archive(_FOLDER, _marker())
        finally:
            container.remove(force=True, v=True)


def _is_ready(container: DockerContainer) -> bool:
    try:
        container.get_archive(f"{_FOLDER}/{weights.READY}")
    except NotFound:
        return False
    return True


def _layer(url: str, digest: str) -> Iterator[bytes]:
    """As it arrives. One that is not what its digest promises leaves the volume without its sign of being ready."""
    found, count, began = hashlib.sha256(), 0, monotonic()
    with requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, _SILENCE_SECONDS)) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_content(_CHUNK_BYTES):
            found.update(chunk)
            yield chunk
            count, took = count + len(chunk), monotonic() - began
            if took > _PATIENCE_SECONDS and count < took * _LEAST_BYTES_PER_SECOND:
                raise ArtifactUnavailable(f"{url} comes too slowly to be waited for: try again.")
    if f"sha256:{found.hexdigest()}" != digest:
        raise ArtifactUnavailable(f"{url} has other content than its digest promises: push the weights again.")


def _marker() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder, _, _file = weights.READY.rpartition("/")
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
        archive.addfile(tarfile.TarInfo(weights.READY))
    return buffer.getvalue()
