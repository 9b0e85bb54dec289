"""Runs image Versions as Docker containers.

Knows engines, labels and networks; nothing of predictions. What a container may do is in `docker_options.py`. The SDK
is synchronous, so each call takes a thread.

A container's name says which Instance it serves: `millrace-<instance>`. One that was made ahead is a spare until its
Instance comes, `millrace-spare-<alias>`, and is then renamed; its labels, and what it calls itself, cannot change.
"""

import asyncio
import contextlib
import io
import math
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container as DockerContainer
from docker.models.networks import Network
from docker.models.resource import Collection
from requests import RequestException

from core.errors import Unavailable
from core.ids import new_id
from core.log import get_logger
from core.settings import Settings
from worker import caches
from worker.runtimes import addresses, cgroups, exits, launch
from worker.runtimes.base import Artifact, Container, ContainerSpec, Exit
from worker.runtimes.departures import Departures, Stream
from worker.runtimes.docker_images import Images
from worker.runtimes.docker_options import ALIAS, GPUS, MADE_OF, OWNER, Cache, Engine, Recipe, recipe, volume_of
from worker.runtimes.docker_weights import DockerWeights, remove_volume

log = get_logger()

T = TypeVar("T")

# The engine answers within milliseconds; on a machine that is swapping, within a minute or never.
ENGINE_SECONDS = 60
# Where nothing ends, the engine says nothing; it is asked anew, lest a dead connection be waited on for ever.
EVENTS_SILENCE_SECONDS = 3600
# After `stop` the engine may still be unmounting.
REMOVAL_SECONDS = 30

LOG_LINES = 5000

INTER_CONTAINER = "com.docker.network.bridge.enable_icc"

INSTALLATION = "millrace.installation"
NODE = "millrace.node"

NAME, SPARE = "millrace-", "millrace-spare-"


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
        self._choosing = asyncio.Lock()
        self._images = Images(self._call, self._labels)
        self._volumes = settings.data.absolute() / "volumes"
        self._weights = DockerWeights(self._call, self._labels, settings.data.absolute() / "weights")
        self._departures = Departures(self._listen)
        self._has_listed = False

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
        await self._images.ensure(artifact.reference)
        await self._weights.ensure(artifact)

    async def start(self, spec: ContainerSpec) -> Container:
        [made_of] = await self._recipes([spec])
        if (spare := await self._claim(made_of, spec.instance_id)) is not None:
            try:
                return await self._run(spare)
            except Unavailable as error:
                log.warning("a spare container did not start, making another", error=str(error))
        return await self._run(await self._create(made_of, NAME, spec.instance_id))

    async def keep_ready(self, specs: Sequence[ContainerSpec]) -> None:
        missing = {made_of.digest: made_of for made_of in await self._recipes(specs)}
        async with self._choosing:
            for spare in await self._listed(name=f"^/{SPARE}"):
                if missing.pop(spare["Labels"][MADE_OF], None) is None:
                    await self._call("remove a container", partial(_remove_by_id, spare["Id"]))
            for made_of in missing.values():
                if await self._images.are_here(made_of.spec.artifact.reference) and await self._is_spared(made_of):
                    return

    async def list(self) -> list[Container]:
        """Before the first answer, what an earlier life had made to look into an image or to fill a volume, goes."""
        found = await self._listed()
        helpers = [each["Id"] for each in found if GPUS not in each["Labels"]]
        for id in [] if self._has_listed else helpers:
            await self._call("remove a container", partial(_remove_by_id, id))
        self._has_listed = True
        return [_ours(each) for each in found if each["Id"] not in helpers and not _is_spare(each)]

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
        return found.name.removeprefix(NAME) if ours else None

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

    # --- making one ---

    async def _recipes(self, specs: Sequence[ContainerSpec]) -> Sequence[Recipe]:
        network, client = await self._network(), await self._connected()
        engine = Engine(client.api.api_version, network.name, network.id)
        return [await self._recipe(spec, engine) for spec in specs]

    async def _recipe(self, spec: ContainerSpec, engine: Engine) -> Recipe:
        cache = None
        if spec.owner:
            kind = await asyncio.to_thread(caches.kind_of, spec.gpu_uuids)
            cache = Cache(volume_of(spec.owner, self._labels), kind)
        image = await self._images.facts(spec.artifact.reference)
        return recipe(spec, engine, image, cache, self._weights.mounts(spec.artifact))

    async def _create(self, made_of: Recipe, prefix: str, alias: str) -> DockerContainer:
        """It calls itself `alias`, in the URLs that it is given."""
        arguments = made_of.named(prefix + alias, alias, self._labels)
        if made_of.cache is not None:
            await self._prepare_volume(made_of)

        def create(client: docker.DockerClient) -> DockerContainer:
            container = client.containers.create(**arguments)
            # The schema is copied in, not mounted: a node that runs in a container has no path the engine could mount.
            try:
                container.put_archive("/", _archive(made_of.files, made_of.folders))
            except BaseException:
                _remove(container)
                raise
            return container

        return await self._call(f"create a container of {made_of.spec.artifact.reference}", create)

    async def _is_spared(self, made_of: Recipe) -> bool:
        """Whether one more was made; what cannot be made keeps no other from being made ahead."""
        try:
            await self._create(made_of, SPARE, new_id())
        except Unavailable as error:
            log.warning("no spare container made", version=made_of.spec.version_id, error=str(error))
            return False
        return True

    async def _prepare_volume(self, made_of: Recipe) -> None:
        """With labels that tell whose it is. When it was last used is kept beside, since an engine does not."""
        labels = {**self._labels, OWNER: made_of.spec.owner}
        name = made_of.cache.volume
        await self._call("make a volume", lambda client: client.volumes.create(name, labels=labels))
        await asyncio.to_thread(caches.use, self._volumes, made_of.spec.owner)
        for old in await asyncio.to_thread(caches.unused, self._volumes):
            name = volume_of(old.name, self._labels)
            is_gone = await self._call("remove a volume", partial(remove_volume, name))
            await asyncio.to_thread(old.rmdir if is_gone else old.touch)

    async def _claim(self, made_of: Recipe, instance_id: str) -> DockerContainer | None:
        """A spare that could have been made for this Instance, which is now its own; None: there is none."""
        found = {"label": f"{MADE_OF}={made_of.digest}", "status": "created"}
        async with self._choosing:
            for spare in await self._listed(name=f"^/{SPARE}", **found):
                renamed = await self._call("rename a container", partial(_rename, spare["Id"], NAME + instance_id))
                if renamed is not None:
                    return renamed
        return None

    async def _run(self, container: DockerContainer) -> Container:
        try:
            return await self._call("start a container", lambda _client: _start(container))
        except Unavailable:
            await self._call("remove a container", lambda _client: _remove(container))
            raise

    async def _listed(self, label: str = "", **filters: str) -> Sequence[dict[str, Any]]:
        """What the engine says of ours, in one answer however many there are."""
        labels = [f"{key}={value}" for key, value in self._labels.items()] + [label] * bool(label)
        return await self._call(
            "list containers", lambda client: client.api.containers(all=True, filters={"label": labels, **filters})
        )


def _get(collection: Collection, key: str) -> Any:
    try:
        return collection.get(key)
    except NotFound:
        return None


def _start(container: DockerContainer) -> Container:
    container.start()
    container.reload()
    return _container(container.id, container.name, container.labels, container.attrs["NetworkSettings"])


def _stop(container: DockerContainer, grace_seconds: int) -> None:
    with contextlib.suppress(NotFound):
        container.stop(timeout=grace_seconds)
        _remove(container)


def _rename(id: str, name: str, client: docker.DockerClient) -> DockerContainer | None:
    """None: it is gone, as after `docker container prune`."""
    container = _get(client.containers, id)
    if container is not None:
        container.rename(name)
        container.reload()
    return container


def _remove_by_id(id: str, client: docker.DockerClient) -> None:
    if (container := _get(client.containers, id)) is not None:
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


def _archive(files: Mapping[str, bytes], folders: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in folders:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _create_network(client: docker.DockerClient, name: str) -> Network:
    options = {INTER_CONTAINER: "false"}
    return client.networks.create(name, driver="bridge", options=options, labels={"millrace.network": name})


def _is_spare(listed: Mapping[str, Any]) -> bool:
    return listed["Names"][0].removeprefix("/").startswith(SPARE)


def _ours(listed: Mapping[str, Any]) -> Container:
    return _container(listed["Id"], listed["Names"][0], listed["Labels"], listed["NetworkSettings"])


def _container(id: str, name: str, labels: Mapping[str, str], settings: Mapping[str, Any]) -> Container:
    addresses = (network["IPAddress"] for network in settings["Networks"].values())
    address = next(filter(None, addresses), "")
    instance_id = name.removeprefix("/").removeprefix(NAME)
    return Container(
        id=id,
        instance_id=instance_id,
        base_url=f"http://{address}:{launch.COG_PORT}" if address else "",
        gpu_uuids=tuple(filter(None, labels[GPUS].split(","))),
        # One that an earlier Millrace made has none.
        alias=labels.get(ALIAS, instance_id),
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
