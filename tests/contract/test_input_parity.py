"""Whatever its schema, a Version accepts exactly the inputs that a real Cog container of that schema accepts.

That is: what `prepare` returns, the container takes; and what the container takes, `prepare` does not refuse, but for
the reasons that `is_deliberate` lists. The newest Cog serves the very document that worker/schema_inspector wrote;
classic Cog writes its own, which is compared.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from core.cog_config import read_config
from core.errors import InvalidField, InvalidInput
from core.inputs import InputSchema
from tests.support import cog_predictors
from tests.support.bundles import shared_environments
from tests.support.cog_predictors import (
    BAD_FILES,
    FILE_HOST,
    FILES,
    GOOD_FILES,
    NEWEST_PATTERNS,
    PATTERN_EDGES,
    PATTERNS,
    Kind,
    Parameter,
    Predictor,
    inputs,
    predictors,
)
from tests.support.cog_servers import CLASSIC, COG_YAML, STREAMING, cog_server
from worker.inspection import inspect_project

#: MILLRACE_TEST_THOROUGH=20 tries twenty times as many predictors.
THOROUGH = int(os.environ.get("MILLRACE_TEST_THOROUGH", "1"))
READY_SECONDS, READY_LOOK_SECONDS = 60.0, 0.1
#: A container that has just finished may not know it yet.
BUSY_ATTEMPTS, BUSY_SECONDS = 200, 0.005


@dataclass(frozen=True)
class Container:
    """A Cog server and what it says of an input: each input that it refuses, and why."""

    http: httpx.Client
    version: str
    predictor: Predictor
    file_host: str
    document: dict[str, Any]
    schema: InputSchema

    def refuses(self, input: dict[str, Any]) -> dict[str, str]:
        response = self._predict(orjson.dumps({"input": input}))
        if response.status_code == 422:
            return {str(each["loc"][2]).split("/")[0]: each["msg"] for each in response.json()["detail"]}
        if response.status_code == 500:  # classic Cog, where a file is no string
            return {each.name: response.text for each in self.predictor.parameters}
        assert response.status_code == 200, response.text
        answer = response.json()
        if answer["status"] == "failed":  # files are read last
            return {each.name: answer["error"] for each in self.predictor.parameters if each.kind.holds_files}
        assert answer["status"] == "succeeded", answer
        return {}

    def read(self, input: dict[str, Any]) -> dict[str, Any]:
        """As the api reads it, with the real address of the files."""
        return orjson.loads(json.dumps(input).replace(FILE_HOST, self.file_host))

    def _predict(self, body: bytes) -> httpx.Response:
        for _ in range(BUSY_ATTEMPTS):
            response = self.http.post("/predictions", content=body, headers={"Content-Type": "application/json"})
            if response.status_code != 409:
                return response
            time.sleep(BUSY_SECONDS)
        raise AssertionError("the container stays busy")


# --- the comparison ---------------------------------------------------------------------------------------------------


def disagreements(container: Container, input: dict[str, Any]) -> list[str]:
    given = container.read(input)
    fitting = container.read({each.name: each.example for each in container.predictor.parameters})
    kinds = {each.name: each.kind for each in container.predictor.parameters}
    ours, theirs = refused(container.schema, given), container.refuses(given)
    found = [
        f"Only Millrace refuses {name}={given.get(name)!r}: {ours[name]}"
        for name in ours.keys() - theirs.keys()
        if not is_deliberate(kinds[name], given.get(name), container.version)
        # A container that refuses one input for its schema does not read the files of the others.
        and not container.refuses(with_only(fitting, given, name))
    ]
    prepared = container.schema.prepare({**given, **{name: fitting[name] for name in ours}})
    found += [
        f"Only the container refuses {name}={prepared.get(name)!r}: {why}"
        for name, why in container.refuses(prepared).items()
    ]
    return found


def with_only(fitting: dict[str, Any], given: dict[str, Any], name: str) -> dict[str, Any]:
    """What fits, but for this input, which is as it was given."""
    others = {each: value for each, value in fitting.items() if each != name}
    return {**others, name: given[name]} if name in given else others


def is_deliberate(kind: Kind, value: Any, version: str) -> bool:
    """Whether Millrace is to refuse what a container would take. These are all the reasons."""
    # Postgres keeps no U+0000, and no model needs it.
    has_nul = r"\u0000" in json.dumps(value)
    # Newer Cog gives any other string to the model, which opens it as a path on the container's disk.
    texts = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]
    is_path = kind.holds_files and not all(each.startswith(("https://", "http://", "data:")) for each in texts)
    # Beyond 64 bits the api has read a whole number as a float, which has lost some of its digits.
    is_huge = isinstance(value, float) and abs(value) >= 2**63
    return has_nul or is_path or is_huge or (version == CLASSIC and is_lax(kind, value))


def is_lax(kind: Kind, value: Any) -> bool:
    """What only classic Cog takes, beyond its own schema."""
    # 1 and "yes" for True, and True for 1.
    is_flag = isinstance(value, bool) != ("bool" in kind.annotation)
    # In a JSON Schema, and for newer Cog, \d and \w are ASCII.
    is_unicode = "regex" in kind.rules and not str(value).isascii()
    return is_flag or is_unicode


def refused(schema: InputSchema, input: dict[str, Any]) -> dict[str, str]:
    """Each input that Millrace refuses, and why."""
    try:
        schema.prepare(input)
    except InvalidInput as error:
        return {name_of(field): field.description for field in error.fields}
    return {}


def name_of(field: InvalidField) -> str:
    missing = field.description.removesuffix(" is required")
    return missing if field.type == "required" else field.field.split(".")[1]


# --- the containers ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def file_host() -> AsyncIterator[str]:
    """The address of a server that has a file at every path."""

    async def give(_: web.BaseRequest) -> web.Response:
        return web.Response(body=b"content")

    runner = web.ServerRunner(web.Server(give))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "{}:{}".format(*runner.addresses[0])
    await runner.cleanup()


@asynccontextmanager
async def serving(version: str, predictor: Predictor, file_host: str) -> AsyncIterator[Container]:
    """A container of this predictor, with the schema that it shows."""
    async with cog_server(version, predictor.source) as server:
        # Classic Cog closes a connection after a 500 without saying so.
        with httpx.Client(base_url=server.url, timeout=READY_SECONDS, headers={"Connection": "close"}) as http:
            document = await asyncio.to_thread(document_when_ready, http)
            yield Container(http, version, predictor, file_host, document, InputSchema(document))


def document_when_ready(http: httpx.Client) -> dict[str, Any]:
    for _ in range(int(READY_SECONDS / READY_LOOK_SECONDS)):
        with contextlib.suppress(httpx.TransportError):
            health = http.get("/health-check").json()
            assert health["status"] in ("STARTING", "READY"), health
            if health["status"] == "READY":
                return http.get("/openapi.json").json()
        time.sleep(READY_LOOK_SECONDS)
    raise AssertionError("the server does not get ready")


# --- the promise ------------------------------------------------------------------------------------------------------


def bounds(examples: int, *phases: Phase) -> settings:
    """The same examples in every run."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, *phases],
        suppress_health_check=list(HealthCheck),
    )


async def compare(container: Container, examples: int) -> None:
    note(container.predictor.source)

    @bounds(examples, Phase.shrink)
    @given(inputs(container.predictor))
    def each_input(input: dict[str, Any]) -> None:
        assert disagreements(container, input) == []

    await asyncio.to_thread(each_input)


@bounds(5 * THOROUGH)
@given(predictor=predictors(cog_predictors.NEWEST))
async def test_the_newest_cog_and_millrace_accept_the_same(predictor: Predictor, file_host: str) -> None:
    async with serving(STREAMING, predictor, file_host) as container:
        await compare(container, examples=60)


@bounds(2 * THOROUGH)
@given(predictor=predictors(cog_predictors.CLASSIC))
async def test_classic_cog_and_millrace_accept_the_same(predictor: Predictor, file_host: str, tmp_path: Path) -> None:
    (tmp_path / "cog.yaml").write_text(COG_YAML)
    (tmp_path / "predict.py").write_text(predictor.source)
    config = replace(read_config(tmp_path), sdk_version=CLASSIC)
    inspection = await inspect_project(await shared_environments().ensure(config), tmp_path, config)
    async with serving(CLASSIC, predictor, file_host) as container:
        assert inspection.openapi_schema["components"] == container.document["components"]
        await compare(container, examples=40)


@pytest.mark.parametrize(("version", "known"), [(STREAMING, {**PATTERNS, **NEWEST_PATTERNS}), (CLASSIC, PATTERNS)])
async def test_every_known_file_and_text_has_the_same_verdict(
    version: str, known: dict[str, str], file_host: str
) -> None:
    files = [Parameter(kind.annotation.lower(), kind, "", "data:,") for kind in FILES]
    texts = [with_pattern(f"p{number}", pattern, known[pattern]) for number, pattern in enumerate(known)]
    async with serving(version, Predictor((*files, *texts)), file_host) as container:
        for value in [*GOOD_FILES, *BAD_FILES, *known.values(), *PATTERN_EDGES]:
            input = {each.name: value for each in container.predictor.parameters}
            assert await asyncio.to_thread(disagreements, container, input) == []
            assert bool(files[0].name in refused(container.schema, input)) == (value not in GOOD_FILES)


async def test_a_pattern_that_only_python_can_read_is_checked_by_nobody(file_host: str) -> None:
    """The newest Cog then checks nothing at all, Millrace all the rest."""
    patterns = (r"\A[a-z]+\Z", r"(?P<first>.)(?P=first)", "(?#comment)a")
    parameters = tuple(with_pattern(f"p{number}", pattern, "a") for number, pattern in enumerate(patterns))
    async with serving(STREAMING, Predictor(parameters), file_host) as container:
        for text in ("a", "", "\n", "No match"):
            input = {each.name: text for each in parameters}
            assert await asyncio.to_thread(disagreements, container, input) == []
            assert refused(container.schema, input) == {}


def with_pattern(name: str, pattern: str, example: str) -> Parameter:
    return Parameter(name, Kind("str", st.just(example), st.nothing(), {"regex": pattern}), "", example)
