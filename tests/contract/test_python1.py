"""The Python client 1.0.7, unchanged, against the whole platform."""

import asyncio
import base64
import hashlib
import signal
from pathlib import Path

import pytest
from sqlalchemy import select

from api.pagination import PAGE_SIZE
from core import catalog
from core.resources import Resources
from core.tables import Prediction
from tests.api.rows import insert_predictions
from tests.api.scene import Caller, Published, Scene
from tests.contract.clients import Script
from tests.support.platform import MODELS, PROJECTS, Platform

HELLO, CHATTY, FILES = "millrace/hello-world", "millrace/chatty", "millrace/files"


@pytest.mark.parametrize("how", ["run", "run_by_version", "run_async"])
async def test_a_model_is_run(python1: Script, how: str) -> None:
    assert await python1(how, model=HELLO, input={"text": "Ada"}) == "hello Ada"


async def test_the_output_of_an_iterator_is_streamed(python1: Script) -> None:
    heard = await python1("stream", model=CHATTY, input={"count": 3, "sleep_seconds": 0.05})
    assert heard == [["output", f"chunk {number}"] for number in range(3)] + [["done", "{}"]]


async def test_run_by_version_iterates_over_chunks(python1: Script) -> None:
    chunks = await python1("iterate", model=CHATTY, input={"count": 3, "sleep_seconds": 0.6})
    assert chunks == ["chunk 0", "chunk 1", "chunk 2"]


async def test_a_running_prediction_is_canceled(python1: Script) -> None:
    input = {"how": "sleep", "seconds": 600}
    statuses = await python1("create_poll_cancel", model="millrace/misbehaving", input=input)
    assert statuses == ["starting", "processing", "canceled"]


async def test_a_file_on_disk_is_uploaded_and_reaches_the_model(python1: Script, tmp_path: Path) -> None:
    path = tmp_path / "input.bin"
    path.write_bytes(bytes(range(256)) * 5000)
    output = await python1("with_file", model=FILES, path=str(path))
    assert output["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_data_uri_and_an_url_reach_the_model(python1: Script, models: Platform) -> None:
    sha256 = hashlib.sha256(b"hello").hexdigest()
    data = f"data:text/plain;base64,{base64.b64encode(b'hello').decode()}"
    assert (await python1("run", model=FILES, input={"file": data, "count": 0}))["sha256"] == sha256
    url = f"{models.url}/health"
    answer = hashlib.sha256(b'{"status":"ok"}').hexdigest()
    assert (await python1("run", model=FILES, input={"file": url, "count": 0}))["sha256"] == answer


async def test_a_failing_model_raises_a_model_error_with_its_logs(python1: Script) -> None:
    failure = await python1("fail", model="millrace/misbehaving", input={"how": "raise"})
    assert failure["message"] == "RuntimeError: misbehaving was asked to raise"
    assert failure["status"] == "failed"
    assert "about to raise" in failure["logs"]


async def test_a_wrong_input_raises_with_the_field_in_its_detail(python1: Script) -> None:
    error = await python1("refuse", model=HELLO, input={})
    assert (error["status"], error["title"]) == (422, "Input validation failed")
    assert error["detail"] == "- input: text is required\n"


async def test_models_hardware_and_account_are_shown(python1: Script, models: Platform) -> None:
    seen = await python1("look_around", model=HELLO)
    assert seen["model"] == HELLO
    assert {HELLO, CHATTY, FILES} <= set(seen["models"])
    assert seen["version"] in seen["versions"]
    assert seen["properties"] == ["text"]
    assert "cpu" in seen["hardware"]
    assert seen["account"] == models.settings.admin_username
    assert seen["secret"].startswith("whsec_")


async def test_files_are_created_listed_and_deleted(python1: Script, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert await python1("handle_files", path=str(path)) == {
        "same": True,
        "listed": True,
        "name": "notes.txt",
        "size": 5,
        "metadata": {"k": "v"},
        "left": False,
    }


async def test_predictions_are_paged(models: Platform, python1: Script) -> None:
    resources: Resources = models.resources
    caller = await Scene(resources).caller()
    async with resources.database.autocommit() as tx:
        runnable = await catalog.resolve(tx, caller.id, HELLO)
    published = Published(runnable.model, runnable.version_id, runnable.target)
    ids = await insert_predictions(resources, Caller(caller.id, "", "", ""), published, PAGE_SIZE * 2 + 1)
    pages = await python1.speaking_for(caller.token)("list_all")
    assert [len(page) for page in pages] == [PAGE_SIZE, PAGE_SIZE, 1]
    assert [id for page in pages for id in page] == ids[::-1]


async def test_digits_come_as_files_that_can_be_read(python1: Script, models: Platform) -> None:
    await models.wait_ready(await models.publish(MODELS / "digits-diffusion"))
    input = {"digit": 7, "num_outputs": 2, "num_inference_steps": 3}
    outputs = await python1("run_for_files", model="millrace/digits-diffusion", input=input)
    assert [kind for kind, _ in outputs] == ["FileOutput", "FileOutput"]
    assert all(base64.b64decode(content).startswith(b"\x89PNG") for _, content in outputs)


@pytest.mark.parametrize(
    ("name", "input", "output"),
    [("chatty", {"count": 2}, ["chunk 0", "chunk 1"]), ("sleeper", {"text": "Ada", "seconds": 0}, ["Ada"])],
)
async def test_a_model_is_streamed_before_anybody_knows_what_it_returns(
    models: Platform, python1: Script, name: str, input: dict, output: list[str]
) -> None:
    """In chunks or whole, what a model returns whose environment is not ready yet is heard."""
    preparing = models.processes["jobs"]
    preparing.send(signal.SIGSTOP)
    try:
        model = await models.publish(PROJECTS / name, f"early-{name}")
        listening = asyncio.create_task(python1("stream", model=model, input=input))
        await _until_asked_for(models, model)
    finally:
        preparing.send(signal.SIGCONT)
    assert await listening == [["output", chunk] for chunk in output] + [["done", "{}"]]


async def _until_asked_for(models: Platform, model: str) -> None:
    for _ in range(300):
        async with models.resources.database.autocommit() as tx:
            if await tx.first(select(Prediction.id).where(Prediction.model == model)):
                return
        await asyncio.sleep(0.1)
    pytest.fail(f"Nobody has asked for {model} within 30 seconds.")
