"""Containers made before anybody needs them: what they save, whose they become, and when they go. On a real engine."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace

import docker
import pytest
from docker.errors import NotFound
from docker.models.containers import Container as DockerContainer

from core.errors import Unavailable
from core.settings import Settings
from tests.support.docker_images import plain_image, push
from worker.runtimes.base import Artifact, ContainerSpec
from worker.runtimes.docker import DockerRuntime

pytestmark = pytest.mark.docker

NETWORK = f"millrace-spares-{os.getpid()}"
WAITS = {"cog/server/http.py": "import signal\nprint('waiting', flush=True)\nwhile True:\n    signal.pause()\n"}
SCHEMA = {"openapi": "3.0.2"}


@pytest.fixture
def settings() -> Settings:
    return Settings(installation=f"test-{uuid.uuid4().hex}", node_name="node-1", docker_network=NETWORK)


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(settings)
    yield runtime
    await runtime.keep_ready([])
    for container in await runtime.list():
        await runtime.stop(container, 0)
    await runtime.close()


@pytest.fixture(autouse=True, scope="module")
def _no_network_is_left(docker_client: docker.DockerClient) -> Iterator[None]:
    yield
    with suppress(NotFound):
        docker_client.networks.get(NETWORK).remove()


@pytest.fixture
async def spec(docker_client: docker.DockerClient, image_registry: str, runtime: DockerRuntime) -> ContainerSpec:
    """Of an Instance that nobody has asked for yet."""
    reference = push(docker_client, plain_image(docker_client, WAITS), f"{image_registry}/tests/spare")
    artifact = Artifact("image", reference, {}, SCHEMA)
    await runtime.ensure(artifact)
    return ContainerSpec("", "v" * 64, artifact, slots=1, uploads_url="http://127.0.0.1:9/uploads")


def of_ours(client: docker.DockerClient, settings: Settings) -> list[DockerContainer]:
    label = f"millrace.installation={settings.installation}"
    return client.containers.list(all=True, filters={"label": label})


def instance(spec: ContainerSpec) -> ContainerSpec:
    return replace(spec, instance_id=uuid.uuid4().hex)


async def test_an_instance_gets_the_spare_that_was_made_for_its_like(
    runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    await runtime.keep_ready([spec])
    [spare] = of_ours(docker_client, settings)
    assert spare.status == "created"
    wanted = instance(spec)
    container = await runtime.start(wanted)
    assert (container.id, container.instance_id) == (spare.id, wanted.instance_id)
    assert await runtime.list() == [container]
    assert await runtime.exited(container) is None
    [only] = of_ours(docker_client, settings)
    schema = only.exec_run(["cat", "/src/.cog/openapi_schema.json"]).output
    assert b"x-cog-streaming" in schema
    # Its labels and its command are older than its Instance.
    assert only.attrs["Config"]["Cmd"][-1] == f"http://127.0.0.1:9/uploads/{container.alias}/"


async def test_a_spare_has_no_instance_and_holds_nothing(
    runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    await runtime.keep_ready([replace(spec, gpu_uuids=("GPU-00000000-0000-0000-0000-000000000000",))])
    assert [each.status for each in of_ours(docker_client, settings)] == ["created"]
    assert await runtime.list() == []


@pytest.mark.parametrize(
    "change",
    [
        {"slots": 2},
        {"version_id": "w" * 64},
        {"gpu_uuids": ("GPU-1",)},
        {"uploads_url": "http://127.0.0.1:9/another-secret/uploads"},
        {"setup_timeout_seconds": 7},
        {"memory_bytes": 1024**3},
    ],
)
async def test_one_that_was_made_for_something_else_is_not_taken_and_goes(
    change: dict, runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    await runtime.keep_ready([replace(spec, **change)])
    [other] = of_ours(docker_client, settings)
    container = await runtime.start(instance(spec))
    assert container.id != other.id
    await runtime.keep_ready([spec])
    assert other.id not in {each.id for each in of_ours(docker_client, settings)}


async def test_each_look_makes_one_and_keeps_what_is_wanted(
    runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    specs = [spec, replace(spec, version_id="w" * 64), replace(spec, version_id="x" * 64)]
    counts = []
    for _ in range(4):
        await runtime.keep_ready(specs)
        counts.append(len(of_ours(docker_client, settings)))
    assert counts == [1, 2, 3, 3]
    await runtime.keep_ready([])
    assert of_ours(docker_client, settings) == []


async def test_two_instances_never_share_one(
    runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    await runtime.keep_ready([spec])
    first, second = await runtime.start(instance(spec)), await runtime.start(instance(spec))
    assert first.id != second.id
    assert {each.instance_id for each in await runtime.list()} == {first.instance_id, second.instance_id}


async def test_one_that_somebody_removed_or_spoiled_is_made_anew(
    runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    await runtime.keep_ready([spec])
    # It is in no network that it could start in.
    docker_client.networks.get(NETWORK).disconnect(of_ours(docker_client, settings)[0], force=True)
    docker_client.networks.get(NETWORK).remove()
    container = await runtime.start(instance(spec))
    assert await runtime.exited(container) is None
    assert container.base_url


async def test_one_that_does_not_start_is_gone_afterwards(
    runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    nowhere = replace(spec, gpu_uuids=("GPU-00000000-0000-0000-0000-000000000000",))
    await runtime.keep_ready([nowhere])
    with pytest.raises(Unavailable, match="could not start a container"):
        await runtime.start(instance(nowhere))
    assert of_ours(docker_client, settings) == []


async def test_the_next_life_of_a_node_takes_the_spares_of_the_one_before(
    runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    await runtime.keep_ready([spec])
    [spare] = of_ours(docker_client, settings)
    restarted = DockerRuntime(settings)
    assert (await restarted.start(instance(spec))).id == spare.id
    await restarted.close()


async def test_spares_of_others_are_neither_taken_nor_removed(
    runtime: DockerRuntime, settings: Settings, spec: ContainerSpec, docker_client: docker.DockerClient
) -> None:
    await runtime.keep_ready([spec])
    [spare] = of_ours(docker_client, settings)
    for changes in ({"node_name": "node-2"}, {"installation": f"another-{uuid.uuid4().hex}"}):
        neighbour = DockerRuntime(settings.model_copy(update=changes))
        container = await neighbour.start(instance(spec))
        assert container.id != spare.id
        await neighbour.keep_ready([])
        await neighbour.stop(container, 0)
        await neighbour.close()
    assert [each.id for each in of_ours(docker_client, settings)] == [spare.id]
