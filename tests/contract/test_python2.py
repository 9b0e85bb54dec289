"""The Python client 2.0.0b4, unchanged, against the whole platform."""

import hashlib
from pathlib import Path

import pytest

from tests.contract.clients import Script

HELLO, CHATTY, FILES = "millrace/hello-world", "millrace/chatty", "millrace/files"


@pytest.mark.parametrize("how", ["run", "use"])
async def test_a_model_is_run(python2: Script, how: str) -> None:
    assert await python2(how, model=HELLO, input={"text": "Ada"}) == "hello Ada"


async def test_it_streams_by_polling(python2: Script) -> None:
    heard = await python2("stream", model=CHATTY, input={"count": 3, "sleep_seconds": 0.6})
    assert heard == ["chunk 0", "chunk 1", "chunk 2"]


async def test_a_file_is_uploaded_in_its_dialect(python2: Script, tmp_path: Path) -> None:
    path = tmp_path / "input.txt"
    path.write_bytes(b"hello")
    output = await python2("with_file", model=FILES, path=str(path))
    assert output["sha256"] == hashlib.sha256(b"hello").hexdigest()


async def test_a_prediction_is_created_with_a_deadline_and_canceled(python2: Script) -> None:
    statuses = await python2("create_and_cancel", model="millrace/misbehaving", input={"how": "sleep"})
    assert statuses[0] == "starting"
    assert statuses[2] in ("canceled", "processing")


async def test_models_hardware_account_and_files_are_shown(python2: Script) -> None:
    seen = await python2("look_around", model=HELLO)
    assert (seen["model"], seen["account"], seen["file"]) == ("hello-world", "admin", ["hello.txt", {"k": "v"}])
    assert "cpu" in seen["hardware"]
