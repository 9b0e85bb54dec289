"""The schema of a model, written without Cog's build command: against real Cog servers, classic and new."""

import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from core.cog_config import read_config
from tests.support.bundles import bundle_artifact, container_spec, health, process_runtime, shared_environments
from worker.inspection import Inspection, InspectionFailed, inspect_project
from worker.model_process import model_environment
from worker.runtimes.base import Container

PROJECTS = Path(__file__).parent / "projects"
CLASSIC = "0.16.12"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def inspection_of(project: Path, sdk_version: str | None = None) -> Inspection:
    config = read_config(project)
    config = replace(config, sdk_version=sdk_version or config.sdk_version)
    return await inspect_project(await shared_environments().ensure(config), project, config)


def write_project(folder: Path, code: str) -> Path:
    (folder / "cog.yaml").write_text("run: run.py:Runner\n")
    (folder / "run.py").write_text(code)
    return folder


@contextmanager
def classic_server(python: Path, project: Path, home: Path) -> Iterator[Container]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(python), "-m", "cog.server.http", "--host", "127.0.0.1"],
        cwd=project,
        env=model_environment(python.parents[1], home, {"PORT": str(port)}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Container("classic", "classic", f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def without_null_defaults(schema: dict[str, Any]) -> dict[str, Any]:
    """New Cog writes `default: null` where the author did, classic Cog never does."""
    properties = {
        name: {key: value for key, value in each.items() if (key, value) != ("default", None)}
        for name, each in schema["properties"].items()
    }
    return {**schema, "properties": properties}


async def test_our_schema_is_what_a_classic_server_serves_for_the_same_model(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """50 equals 50.0 in JSON; null defaults are the one difference left."""
    project = PROJECTS / "every-type"
    ours = (await inspection_of(project)).openapi_schema["components"]["schemas"]
    environment = await shared_environments().ensure(replace(read_config(project), sdk_version=CLASSIC))
    with classic_server(environment.python, project, tmp_path) as server:
        await health(server, http)
        async with http.get(f"{server.base_url}/openapi.json") as response:
            theirs = (await response.json())["components"]["schemas"]
    assert list(theirs.keys() - ours.keys()) == ["WebhookEvent"]
    for name in ("Output", "size", "steps", "needed_choice", "Status", "ValidationError", "HTTPValidationError"):
        assert ours[name] == theirs[name]
    assert without_null_defaults(ours["Input"]) == without_null_defaults(theirs["Input"])
    assert set(ours["PredictionResponse"]["properties"]) == set(theirs["PredictionResponse"]["properties"])


async def test_a_classic_model_is_described_by_its_own_cog() -> None:
    inspection = await inspection_of(PROJECTS / "every-type", CLASSIC)
    schemas = inspection.openapi_schema["components"]["schemas"]
    assert inspection.cog_version == CLASSIC
    assert schemas["Input"]["properties"]["bounded"]["maximum"] == 100


async def test_the_newest_types_are_described_by_cogs_build_rules() -> None:
    inspection = await inspection_of(PROJECTS / "newest-types")
    schemas = inspection.openapi_schema["components"]["schemas"]
    inputs = schemas["Input"]["properties"]
    assert inspection.concurrency == 3
    assert schemas["Input"]["required"] == ["image", "options", "boxes", "needed_key", "runtime_seed", "anything"]
    assert [inputs[name]["x-order"] for name in inputs] == list(range(len(inputs)))
    assert inputs["image"]["x-cog-accept"] == "image/*"
    assert inputs["settings"] == {"x-order": 2, "title": "Settings", "type": "object", "default": {}}
    assert inputs["boxes"]["items"] == {"type": "object"}
    assert inputs["size"]["anyOf"] == [{"type": "string"}, {"type": "integer"}]
    assert inputs["size"]["nullable"] is True
    assert inputs["key"] == {
        "x-order": 5,
        "title": "Key",
        "type": "string",
        "format": "password",
        "writeOnly": True,
        "x-cog-secret": True,
        "default": None,
        "nullable": True,
        "description": "Falls back to ours",
    }
    assert inputs["mode"]["enum"] == ["fast", "good"]
    assert inputs["anything"]["type"] == "object"
    region = schemas["Output"]["properties"]["regions"]["items"]
    assert region["properties"]["box"]["required"] == ["left", "label"]
    assert region["properties"]["scores"]["additionalProperties"] == {"type": "number"}
    assert region["properties"]["parent"] == {"title": "Parent", "type": "object", "nullable": True}
    assert schemas["Output"]["required"] == ["regions"]
    assert schemas["TrainingInput"]["required"] == ["data"]
    assert schemas["TrainingOutput"]["properties"]["weights"]["format"] == "uri"


ITERATOR = {"type": "array", "items": {"type": "string"}, "x-cog-array-type": "iterator"}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("str", {"type": "string"}),
        ("Any", {"type": "object"}),
        ("list[Path]", {"type": "array", "items": {"type": "string", "format": "uri"}}),
        (
            "dict[str, list[int]]",
            {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}},
        ),
        ("Iterator[str]", ITERATOR),
        ("AsyncIterator[str]", ITERATOR),
        ("ConcatenateIterator[str]", {**ITERATOR, "x-cog-array-display": "concatenate"}),
        ("AsyncConcatenateIterator[str]", {**ITERATOR, "x-cog-array-display": "concatenate"}),
    ],
)
async def test_outputs_have_cogs_shapes(tmp_path: Path, annotation: str, expected: dict[str, Any]) -> None:
    project = write_project(
        tmp_path,
        "from typing import Any, AsyncIterator, Iterator\n"
        "from cog import AsyncConcatenateIterator, BaseRunner, ConcatenateIterator, Path\n"
        "class Runner(BaseRunner):\n"
        f"    def run(self) -> {annotation}: ...\n",
    )
    document = (await inspection_of(project)).openapi_schema
    assert document["components"]["schemas"]["Output"] == {"title": "Output", **expected}
    assert document["paths"]["/predictions"]["post"]["x-cog-streaming"] is True


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "import nosuchmodule",
            "run.py:Runner could not be loaded: ModuleNotFoundError: No module named 'nosuchmodule'",
        ),
        ("raise SystemExit(3)", "could not be loaded: Python exited with code 3"),
        ("Other = 1", "run.py defines no Runner"),
        ("class Runner: pass", "must define run() or predict()."),
        ("class Runner:\n  def run(self) -> str: ...\n  def predict(self) -> str: ...", "not both"),
        ("class Runner:\n  def run(self, n) -> str: ...", "The input n has no type"),
        ("class Runner:\n  def run(self, n: complex) -> str: ...", "The input n has the type complex"),
        ("class Runner:\n  def run(self, *n: int) -> str: ...", "name every input"),
        ("class Runner:\n  def run(self): ...", "has no return type"),
        ("class Runner:\n  def run(self) -> str | None: ...", "output must not be Optional"),
        ("import sys\nsys.stdout.write('x' * 10**6)\nclass Runner: pass", "must define run() or predict()."),
    ],
)
async def test_a_model_that_cannot_be_described_is_refused_with_the_reason(
    tmp_path: Path, code: str, sentence: str
) -> None:
    with pytest.raises(InspectionFailed) as caught:
        await inspection_of(write_project(tmp_path, code))
    assert sentence in str(caught.value)


async def test_what_a_model_prints_while_imported_does_not_spoil_its_schema(tmp_path: Path) -> None:
    project = write_project(tmp_path, "print('{')\nclass Runner:\n  def run(self, n: int = 1) -> str: ...")
    assert (await inspection_of(project)).openapi_schema["components"]["schemas"]["Output"]["type"] == "string"


async def test_the_newest_server_serves_our_schema_validates_by_it_and_streams(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    write_project(
        project,
        "from typing import Iterator\nfrom cog import BaseRunner, Input, Secret\n"
        "class Runner(BaseRunner):\n"
        "  def run(self, word: str = Input(choices=['a', 'b']), count: int = Input(default=2, ge=1, le=3),\n"
        "      either: int | list[str] = 1, key: Secret = Input(default=None), maybe: str | None = None,\n"
        "      options: dict = {}) -> Iterator[str]:\n"
        "    for index in range(count): yield f'{word}{index}'\n",
    )
    runtime = process_runtime(tmp_path / "data", project)
    artifact = await bundle_artifact(project)
    container = await runtime.start(container_spec(artifact, "one"))
    predictions = f"{container.base_url}/predictions"
    try:
        assert (await health(container, http))["status"] == "READY"
        async with http.get(f"{container.base_url}/openapi.json") as response:
            assert await response.json() == artifact.openapi_schema
        wrong = [
            {"word": "c"},
            {"word": "a", "count": 4},
            {"word": "a", "either": "x"},
            {"word": "a", "options": 1},
            {},
        ]
        for given in wrong:
            async with http.post(predictions, json={"input": given}) as response:
                assert response.status == 422, given
        async with http.put(
            f"{predictions}/first", json={"input": {"word": "b"}}, headers={"Accept": "text/event-stream"}
        ) as response:
            assert response.content_type == "text/event-stream"
            data = [json.loads(line[6:]) for line in (await response.text()).splitlines() if line.startswith("data: ")]
        assert [each["chunk"] for each in data if "chunk" in each] == ["b0", "b1"]
        assert data[-1]["status"] == "succeeded"
    finally:
        await runtime.stop(container, grace_seconds=0)
