"""The JavaScript client 1.4.0, unchanged, against the whole platform."""

import hashlib
from pathlib import Path

import pytest

from tests.contract.clients import Script

HELLO, CHATTY, FILES = "millrace/hello-world", "millrace/chatty", "millrace/files"


@pytest.mark.parametrize("how", ["run", "poll"])
async def test_a_model_is_run(javascript: Script, how: str) -> None:
    assert await javascript(how, model=HELLO, input={"text": "Ada"}) == "hello Ada"


async def test_text_is_streamed_as_text(javascript: Script) -> None:
    heard = await javascript("stream", model=CHATTY, input={"count": 3, "sleep_seconds": 0.05})
    assert heard == [["output", f"chunk {number}"] for number in range(3)] + [["done", "{}"]]


async def test_a_blob_is_uploaded_and_reaches_the_model(javascript: Script, tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_bytes(b"hello")
    output = await javascript("withFile", model=FILES, path=str(path))
    assert output["sha256"] == hashlib.sha256(b"hello").hexdigest()


async def test_output_files_become_file_objects(javascript: Script) -> None:
    files = await javascript("files", model=FILES, input={"file": "data:text/plain;base64,aGVsbG8=", "count": 2})
    assert files == [["FileOutput", "file 0\n"], ["FileOutput", "file 1\n"]]


async def test_a_prediction_is_canceled(javascript: Script) -> None:
    statuses = await javascript("cancel", version="millrace/misbehaving", input={"how": "sleep"})
    assert statuses == ["starting", "canceled"]


async def test_a_failing_model_throws(javascript: Script) -> None:
    message = await javascript("fail", model="millrace/misbehaving", input={"how": "raise"})
    assert message == "Prediction failed: RuntimeError: misbehaving was asked to raise"


async def test_models_hardware_account_and_files_are_shown(javascript: Script) -> None:
    seen = await javascript("lookAround", model=HELLO)
    assert (seen["model"], seen["account"], seen["metadata"]) == ("hello-world", "admin", {"k": "v"})
    assert "cpu" in seen["hardware"]
    assert seen["versions"] >= 1
    assert seen["pages"]
