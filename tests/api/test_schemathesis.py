"""Schemathesis reads our OpenAPI document, calls every operation of it with what is allowed and what is not, and finds
no answer that the document does not describe.

It is given the names of things that are there, or nearly everything would be a 404.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from core import wire
from core.hardware import CPU
from core.resources import Resources
from core.settings import Settings
from core.tables import Account
from tests.api.conftest import client_of
from tests.api.scene import FILES, Caller, Scene
from tests.api.serving import serving

#: Another seed finds other things: try some before a release, with many more examples.
SEED, MAX_EXAMPLES = 3, 12
#: Ends a hang, not a slow run.
TIMEOUT_SECONDS = 900
#: How often a parameter that has a real value gets it; the rest is made up.
REAL = 0.7

CHECKS = """
# It cannot be stored, which no schema says; other tests send it.
generation.allow-x00 = false
checks.not_a_server_error.enabled = true
checks.status_code_conformance.enabled = true
checks.content_type_conformance.enabled = true
checks.response_schema_conformance.enabled = true
checks.response_headers_conformance.enabled = true
checks.negative_data_rejection.enabled = true
checks.missing_required_header.enabled = true
checks.unsupported_method.enabled = true
checks.ignored_auth.enabled = true
# 400: no schema can say which cursors and which Hardware there are.
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409"]

[[operations]]
include-operation-id-regex = "[.]predictions[.]create$"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id-regex = "^(predictions|trainings|tokens|prices).create$|^usage.|profile.update$"
# Which inputs are right is in the schema of a Version; and no schema knows which moments are to come or go together,
# what a price or a limit may be of, and that a tax has a name.
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id-regex = "^billing.(credits|limits).create$"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = "billing.invoices.pdf"
# Until its job has run it is being made, and 503 with Retry-After says so.
checks.not_a_server_error.enabled = false
checks.positive_data_acceptance.enabled = false
"""


@pytest.fixture(scope="module")
def unlimited(settings: Settings) -> Iterator[Settings]:
    """An api that lets a caller call as often as it likes."""
    with serving(settings.model_copy(update={"rate_creates_per_minute": 0, "rate_calls_per_minute": 0})) as served:
        yield served


@pytest.fixture
async def admin(scene: Scene, caller: Caller, resources: Resources) -> Caller:
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == caller.id).values(is_admin=True))
    return caller


@pytest.fixture
async def names(unlimited: Settings, scene: Scene, admin: Caller) -> dict[str, list[str]]:
    """Parameters, and values of them that stand for something."""
    published = await scene.publish(admin)
    images = await scene.publish(admin, FILES)
    owner, name = published.model.split("/")
    async with client_of(unlimited, admin.token) as client:

        async def create(path: str, **request: object) -> str:
            answer = await client.post(path, **request)
            assert answer.is_success, answer.text
            return answer.json()["id"]

        body = {"version": published.version, "input": {"text": "Ada"}}
        waiting, done = [
            await create("/v1/predictions", json=body | {"webhook": f"{unlimited.url}/health"}) for _ in range(2)
        ]
        drawn = await create("/v1/predictions", json=body | {"version": images.version})
        uploads = [await create("/v1/files", files={"content": ("a.txt", b"a")}) for _ in range(5)]
        tokens = [await create("/v1/tokens", json={"name": "a token"}) for _ in range(5)]
        release = {"version": published.version, "hardware": CPU.sku, "min_instances": 0, "max_instances": 1}
        deployment = {"name": "a-deployment", "model": published.model, **release}
        assert (await client.post("/v1/deployments", json=deployment)).is_success
        collection = {"name": "A collection", "models": [published.model]}
        assert (await client.put(f"/v1/collections/{name}", json=collection)).is_success
        await client.post(f"/v1/models/{images.model}/examples", json={"prediction": drawn})
    await scene.finish(await scene.start(done), "Hello, Ada")
    row = await scene.start(drawn)
    output, _ = await scene.output_file(row, b"\x89PNG")
    await scene.finish(row, [])
    return {
        "path.collection_slug": [name],
        "path.delivery_id": [f"msg_{done}"],
        "path.deployment_name": ["a-deployment"],
        "path.deployment_owner": [owner],
        "path.token_id": tokens,
        "path.prediction_id": [waiting, done, drawn],
        "path.file_id": [*uploads, output],
        "path.name": ["output.png"],
        "path.model_owner": [owner],
        "path.model_name": [name, images.model.split("/")[1]],
        "path.version_id": [published.version, images.version],
        "path.capability": [wire.stream_capability(unlimited, id) for id in (done, drawn)],
        "body.hardware": [CPU.sku],
        "body.model": [published.model],
        "body.version": [published.version],
    }


def configured(folder: Path, api: Settings, token: str, names: dict[str, list[str]]) -> Path:
    """Strings of JSON are strings of TOML."""
    headers = f"headers = {{ Authorization = {json.dumps(f'Bearer {token}')} }}"
    values = [f'dictionaries."{name}".values = {json.dumps(values)}' for name, values in names.items()]
    uses = [f'parameters."{name}" = {{ dictionary = "{name}", probability = {REAL} }}' for name in names]
    config = folder / "schemathesis.toml"
    config.write_text("\n".join([f'base-url = "{api.url}/v1"', headers, *values, *uses, CHECKS]))
    return config


async def test_no_answer_differs_from_the_document(
    unlimited: Settings, admin: Caller, names: dict[str, list[str]], tmp_path: Path
) -> None:
    config = configured(tmp_path, unlimited, admin.token, names)
    run = subprocess.run(  # noqa: ASYNC221
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{unlimited.url}/v1/openapi.json"),
            *("--phases", "examples,coverage,fuzzing", "--seed", str(SEED)),
            *("--max-examples", str(MAX_EXAMPLES), "--no-color", "--warnings", "off"),
            *("--suppress-health-check", "all", "--generation-database", "none"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
