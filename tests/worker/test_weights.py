"""Weights that Cog keeps beside an image: fetched into a volume before the container starts, which only reads them."""

import io
import os
import tarfile
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import NotFound

from core.settings import Settings
from tests.support.docker_fixtures import Shell
from tests.support.docker_images import plain_image, push
from tests.support.image_repository import Repository, digest_of
from worker import weights
from worker.registry import INDEX_TYPES, MANIFEST_TYPES, image_artifact
from worker.runtimes.base import Artifact, ArtifactUnavailable, ContainerSpec
from worker.runtimes.docker import DockerRuntime
from worker.weights import BadTarget, Weights

NETWORK = f"millrace-weights-{os.getpid()}"
WAITS = {"cog/server/http.py": "import signal\nwhile True:\n    signal.pause()\n"}
LABELS = 'LABEL run.cog.config="{}" run.cog.openapi_schema="{}"'
TAR, GZIP = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.mark.parametrize(
    "target", ["", "/", "weights", "/src/../etc", "/tmp/x", "/proc", "/var/cache/millrace", "/a:b", None]
)
def test_only_a_folder_of_the_container_may_hold_them(target: str | None) -> None:
    with pytest.raises(BadTarget):
        Weights.of_manifest({"annotations": {weights.TARGET: target}})


def test_what_is_kept_of_them_is_found_again_and_a_config_without_stays_as_it_is() -> None:
    found = (Weights("/src/weights", ("sha256:a", "sha256:b")), Weights("/src/lora", ("sha256:c",)))
    config = {"predict": "predict.py:Predictor"}
    assert weights.of(weights.kept(config, found)) == found
    assert weights.kept(config, ()) == config
    assert weights.of(config) == ()


def test_no_label_of_an_image_says_which_weights_there_are() -> None:
    assert weights.kept({"predict": "p", "millrace_weights": [1]}, ()) == {"predict": "p"}


def test_none_lie_within_others() -> None:
    weights.check((Weights("/src/weights", ()), Weights("/src/weights-2", ())))
    for inner in ("/src/weights", "/src/weights/lora"):
        with pytest.raises(BadTarget):
            weights.check((Weights("/src/weights", ()), Weights(inner, ("sha256:a",))))


def test_the_same_layers_of_another_repository_or_node_are_not_the_same_weights() -> None:
    ours = Weights("/src/weights", ("sha256:a",))
    node = {"millrace.node": "a"}
    assert ours.named("host/ada/model", node) == ours.named("host/ada/model", dict(node))
    assert ours.named("host/ada/model", node) != ours.named("host/bob/model", node)
    assert ours.named("host/ada/model", node) != ours.named("host/ada/model", {"millrace.node": "b"})


# --- on a real engine -------------------------------------------------------------------------------------------------


@pytest.fixture
async def runtime(tmp_path: Path, docker_client: docker.DockerClient) -> AsyncIterator[DockerRuntime]:
    installation = f"test-{uuid.uuid4().hex}"
    runtime = DockerRuntime(
        Settings(data=tmp_path, installation=installation, node_name="node-1", docker_network=NETWORK)
    )
    yield runtime
    for container in await runtime.list():
        await runtime.stop(container, 0)
    await runtime.close()
    for volume in docker_client.volumes.list(filters={"label": f"millrace.installation={installation}"}):
        volume.remove()
    with suppress(NotFound):
        docker_client.networks.get(NETWORK).remove()


@pytest.fixture
def repository(image_registry: str) -> Repository:
    return Repository(image_registry, f"tests/weights-{uuid.uuid4().hex}")


@pytest.fixture
def image(docker_client: docker.DockerClient, repository: Repository) -> str:
    return push(docker_client, plain_image(docker_client, WAITS, LABELS), repository.reference)


def layer(mode: str, **files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"{name}.bin")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


async def push_weights(repository: Repository, target: str, layers: dict[bytes, str]) -> dict[str, Any]:
    """Its descriptor, as Cog writes it into the index."""
    config = await repository.push_blob(b"{}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "artifactType": weights.ARTIFACT_TYPE,
        "config": {"mediaType": "application/vnd.cog.weight.config.v1+json", "digest": config, "size": 2},
        "layers": [
            {"mediaType": media_type, "digest": await repository.push_blob(blob), "size": len(blob)}
            for blob, media_type in layers.items()
        ],
        "annotations": {weights.TARGET: target},
    }
    platform = {"os": "unknown", "architecture": "unknown"}
    descriptor = await repository.push_manifest(f"weights-{uuid.uuid4().hex}", manifest)
    return {**descriptor, "artifactType": weights.ARTIFACT_TYPE, "platform": platform}


async def publish(repository: Repository, image: str, *entries: dict[str, Any]) -> Artifact:
    """An index as `cog push` writes it; what Millrace reads of it."""
    digest = image.partition("@")[2]
    platform = {"os": "linux", "architecture": "amd64"}
    size = await repository.manifest_size(digest)
    own = {"mediaType": MANIFEST_TYPES[1], "digest": digest, "size": size, "platform": platform}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [own, *entries]}
    pushed = await repository.push_manifest("bundle", index)
    reference = f"{repository.reference}@{pushed['digest']}"
    found = await image_artifact(reference)
    return Artifact("image", reference, weights.kept(found.config, found.weights), {})


def spec(artifact: Artifact) -> ContainerSpec:
    return ContainerSpec(uuid.uuid4().hex, "v" * 64, artifact, 1, None)


@pytest.mark.docker
async def test_a_model_finds_its_weights_where_it_wants_them_and_cannot_change_them(
    runtime: DockerRuntime, repository: Repository, image: str, shell: Shell
) -> None:
    base = await push_weights(repository, "/src/weights", {layer("w", a="one"): TAR, layer("w:gz", b="two"): GZIP})
    lora = await push_weights(repository, "/src/lora", {layer("w", c="three"): TAR})
    artifact = await publish(repository, image, base, lora)
    await runtime.ensure(artifact)
    first, second = await runtime.start(spec(artifact)), await runtime.start(spec(artifact))
    for container in (first, second):
        assert shell(container, "cat /src/weights/a.bin /src/weights/b.bin /src/lora/c.bin") == "onetwothree"
        assert shell(container, f"ls /src/weights/{weights.READY} /src/lora/{weights.READY}").count("ready") == 2
    assert "Read-only file system" in shell(first, "echo poison > /src/weights/a.bin")
    assert "Read-only file system" in shell(first, "rm /src/weights/a.bin")


@pytest.mark.docker
async def test_weights_that_are_not_what_they_promise_are_refused_until_they_are(
    runtime: DockerRuntime,
    repository: Repository,
    image: str,
    shell: Shell,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A registry whose disk has changed under it."""
    blob = layer("w", a=f"one {uuid.uuid4().hex}")
    artifact = await publish(repository, image, await push_weights(repository, "/src/weights", {blob: TAR}))
    stored = next(tmp_path_factory.getbasetemp().glob(f"*/images/**/{digest_of(blob).partition(':')[2]}/data"))
    stored.write_bytes(blob.replace(b"one", b"two"))
    with pytest.raises(ArtifactUnavailable, match="other content than its digest promises"):
        await runtime.ensure(artifact)
    stored.write_bytes(blob)
    await runtime.ensure(artifact)
    assert shell(await runtime.start(spec(artifact)), "cat /src/weights/a.bin").startswith("one ")


@pytest.mark.docker
async def test_weights_that_are_gone_are_a_reason_that_says_so(
    runtime: DockerRuntime, repository: Repository, image: str
) -> None:
    gone = (Weights("/src/weights", (digest_of(b"nobody has pushed this"),)),)
    with pytest.raises(ArtifactUnavailable, match=r"weights of .* are not to be had\. .*404"):
        await runtime.ensure(Artifact("image", image, weights.kept({}, gone), {}))


@pytest.mark.docker
async def test_what_fills_a_volume_is_no_instance_and_goes_with_the_life_that_made_it(
    runtime: DockerRuntime, image: str, docker_client: docker.DockerClient, tmp_path: Path
) -> None:
    await runtime.ensure(Artifact("image", image, {}, {}))
    assert await runtime.list() == []
    labels = {"millrace.installation": runtime._settings.installation, "millrace.node": "node-1"}
    helper = docker_client.containers.create(image, command=["never"], labels=labels)
    assert await runtime.list() == []
    helper.reload()
    again = DockerRuntime(runtime._settings)
    try:
        assert await again.list() == []
    finally:
        await again.close()
    with pytest.raises(NotFound):
        helper.reload()
