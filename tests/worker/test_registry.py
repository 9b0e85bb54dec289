"""What is read from an image in a registry, against Debian's docker-registry."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import docker
import pytest
from aiohttp import web

from tests.support.docker_fixtures import ModelImage
from tests.support.image_repository import Repository
from tests.support.registries import registry
from worker.registry import INDEX_TYPES, image_artifact
from worker.runtimes.base import ArtifactUnavailable

pytestmark = pytest.mark.docker

SCHEMA = {"openapi": "3.0.2", "components": {"schemas": {"Input": {"type": "object"}}}}
LABELS = {
    "run.cog.version": "0.23.1",
    "run.cog.config": '{"predict": "predict.py:Predictor"}',
    "run.cog.openapi_schema": json.dumps(SCHEMA),
}


@pytest.fixture
def repository(image_registry: str) -> Repository:
    return Repository(image_registry, "tests/hand-made")


@pytest.fixture(scope="module")
def closed_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("closed-registry")
    with registry(folder, closed=True) as host:
        yield host


@pytest.fixture
async def lying_registry() -> AsyncIterator[str]:
    """Answers every question with the same manifest."""

    async def lie(_request: web.Request) -> web.Response:
        return web.json_response({"config": {"digest": f"sha256:{'0' * 64}"}})

    application = web.Application()
    application.router.add_get("/{anything:.*}", lie)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_an_image_that_the_engine_pushed_tells_its_schema_and_its_cog(
    image_registry: str, model_image: ModelImage, docker_client: docker.DockerClient
) -> None:
    pinned = model_image("no-op-sync", "0.16.12")
    found = await image_artifact(f"{image_registry}/tests/no-op-sync:0.16.12")
    assert found.reference == pinned
    assert found.cog_version == "0.16.12"
    assert found.config["predict"] == "predict.py:Predictor"
    assert found.openapi_schema["components"]["schemas"]["Input"]["properties"]["text"]["type"] == "string"
    assert await image_artifact(pinned) == found


async def test_a_reference_without_a_tag_means_latest(repository: Repository) -> None:
    descriptor = await repository.push_image("latest", LABELS)
    found = await image_artifact(repository.reference)
    assert found.reference == f"{repository.reference}@{descriptor['digest']}"
    assert found.openapi_schema == SCHEMA


async def test_of_an_index_the_linux_amd64_image_is_taken(repository: Repository) -> None:
    arm = await repository.push_image("arm", {**LABELS, "run.cog.version": "arm"}, architecture="arm64")
    intel = await repository.push_image("intel", LABELS)
    entries = [
        {**arm, "platform": {"os": "linux", "architecture": "arm64"}},
        {**arm, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**intel, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": entries}
    await repository.push_manifest("both", index)
    found = await image_artifact(f"{repository.reference}:both")
    assert found.reference == f"{repository.reference}@{intel['digest']}"

    await repository.push_manifest("foreign", {**index, "manifests": entries[:2]})
    with pytest.raises(ArtifactUnavailable, match="has no image for linux/amd64"):
        await image_artifact(f"{repository.reference}:foreign")


@pytest.mark.parametrize(
    ("labels", "cog_version"),
    [
        (LABELS, "0.23.1"),
        ({**LABELS, "run.cog.pip_freeze": "cogwheel==9\ncog==0.16.12\ncoglet==0.1.0"}, "0.16.12"),
        ({**LABELS, "run.cog.pip_freeze": "cog @ file:///tmp/cog-0.14.1-py3-none-any.whl"}, "0.14.1"),
        ({name.replace("run.cog.", "org.cogmodel."): text for name, text in LABELS.items()}, None),
        ({**LABELS, "run.cog.version": ""}, None),
    ],
)
async def test_the_cog_inside_counts_before_the_cog_that_built_it(
    labels: dict[str, str], cog_version: str | None, repository: Repository
) -> None:
    await repository.push_image("labelled", labels)
    found = await image_artifact(f"{repository.reference}:labelled")
    assert (found.openapi_schema, found.cog_version) == (SCHEMA, cog_version)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ({}, "has no label run.cog.config: build it with `cog build`"),
        ({"run.cog.config": "{}"}, "has no label run.cog.openapi_schema"),
        ({**LABELS, "run.cog.openapi_schema": "{"}, "is not JSON"),
        ({**LABELS, "run.cog.openapi_schema": "[]"}, "is not a JSON object"),
    ],
)
async def test_an_image_without_usable_labels_is_refused(
    labels: dict[str, str], sentence: str, repository: Repository
) -> None:
    await repository.push_image("unlabelled", labels)
    with pytest.raises(ArtifactUnavailable, match=sentence):
        await image_artifact(f"{repository.reference}:unlabelled")


@pytest.mark.parametrize("reference", ["hello-world", "library/hello-world", "127.0.0.1:1/UPPER", "host.example/../v2"])
async def test_a_reference_that_names_no_registry_is_refused(reference: str) -> None:
    with pytest.raises(ArtifactUnavailable, match="write it as host/owner/name:tag"):
        await image_artifact(reference)


async def test_what_a_registry_will_not_give_is_explained(
    image_registry: str, closed_registry: str, lying_registry: str
) -> None:
    with pytest.raises(ArtifactUnavailable, match="has no manifests/nothing in tests/nothing: push the image first"):
        await image_artifact(f"{image_registry}/tests/nothing:nothing")
    with pytest.raises(ArtifactUnavailable, match="asks for a login"):
        await image_artifact(f"{closed_registry}/tests/nothing")
    with pytest.raises(ArtifactUnavailable, match="does not answer"):
        await image_artifact("127.0.0.1:9/tests/nothing")
    with pytest.raises(ArtifactUnavailable, match="other content"):
        await image_artifact(f"{lying_registry}/tests/nothing@sha256:{'1' * 64}")
    with pytest.raises(ArtifactUnavailable, match="other content"):
        await image_artifact(f"{lying_registry}/tests/nothing")
