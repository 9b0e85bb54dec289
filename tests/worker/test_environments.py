"""Environments: built once, whole, and never twice at a time. Real venvs and a real pip."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.cog_config import CogConfig
from tests.support.bundles import shared_environments
from worker.environments import COMPLETE, Environment, Environments
from worker.model_process import installer_environment, model_environment, run
from worker.runtimes.base import ArtifactUnavailable

CONFIG = CogConfig("predict.py:Predictor")
BUILD_TIMEOUT_SECONDS = 120
BUILD = """
import asyncio, sys
from pathlib import Path
from core.cog_config import CogConfig
from worker.environments import Environments

environment = asyncio.run(Environments(Path(sys.argv[1])).ensure(CogConfig("predict.py:Predictor"), print))
print("ready", environment.path, flush=True)
"""


def builder(root: Path) -> "subprocess.Popen[str]":
    """Another process that wants the same environment."""
    return subprocess.Popen([sys.executable, "-uc", BUILD, str(root)], stdout=subprocess.PIPE, text=True)


async def imports(environment: Environment, statement: str) -> str:
    finished = await run(
        [str(environment.python), "-c", statement],
        environment=model_environment(environment.path, environment.path, {}),
        cwd=environment.path,
        timeout_seconds=60,
    )
    assert finished.code == 0, finished.lines
    return finished.lines[-1]


async def test_equal_requirements_share_one_environment_whatever_their_order() -> None:
    environments = shared_environments()
    first = await environments.ensure(CogConfig("a.py:A", requirements=("idna", "certifi")))
    second = await environments.ensure(CogConfig("b.py:B", requirements=("certifi", "idna"), gpu=True))
    other = await environments.ensure(CONFIG)
    assert first == second
    assert other != first
    assert await imports(first, "import cog; print(cog.__version__)") == CONFIG.sdk_version


async def test_an_interpreter_this_machine_lacks_is_replaced_and_said_so() -> None:
    lines: list[str] = []
    config = CogConfig("a.py:A", python_version="3.99", system_packages=("ffmpeg",))
    environment = await shared_environments().ensure(config, lines.append)
    assert environment == await shared_environments().ensure(CONFIG)
    assert any("asks for Python 3.99, which is not on this machine" in line for line in lines)
    assert any("system packages ffmpeg" in line for line in lines)


async def test_a_launcher_that_only_prints_an_error_is_no_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python3.98").write_text("#!/bin/sh\necho not installed >&2\nexit 127\n")
    (tmp_path / "python3.98").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    lines: list[str] = []
    await shared_environments().ensure(CogConfig("a.py:A", python_version="3.98"), lines.append)
    assert any("asks for Python 3.98, which is not on this machine" in line for line in lines)


async def test_a_requirement_that_does_not_exist_is_named(tmp_path: Path) -> None:
    config = CogConfig("a.py:A", requirements=("certifi==0.0.0.1",))
    lines: list[str] = []
    with pytest.raises(ArtifactUnavailable, match="could not be installed(.|\n)*certifi==0.0.0.1"):
        await Environments(tmp_path).ensure(config, lines.append)
    [log] = tmp_path.glob("*.log")
    assert "certifi==0.0.0.1" in log.read_text()
    assert not list(tmp_path.glob(f"*/{COMPLETE}"))


async def test_two_processes_that_want_the_same_environment_build_it_once(tmp_path: Path) -> None:
    processes = [builder(tmp_path), builder(tmp_path)]
    outputs = await asyncio.gather(
        *(asyncio.to_thread(process.communicate, timeout=BUILD_TIMEOUT_SECONDS) for process in processes)
    )
    texts = [output for output, _ in outputs]
    assert all("ready" in text for text in texts)
    assert "".join(texts).count("Building an environment") == 1


async def test_a_build_that_was_killed_half_way_is_never_used(tmp_path: Path) -> None:
    process = builder(tmp_path)
    assert process.stdout is not None
    await asyncio.to_thread(process.stdout.readline)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.communicate)
    [half] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert not (half / COMPLETE).exists()
    environment = await Environments(tmp_path).ensure(CONFIG)
    assert environment.path == half
    assert await imports(environment, "import cog; print(cog.__version__)") == CONFIG.sdk_version


async def test_a_cancelled_build_leaves_nothing_running(tmp_path: Path) -> None:
    started = asyncio.Event()
    building = asyncio.create_task(Environments(tmp_path).ensure(CONFIG, lambda _line: started.set()))
    await started.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    commands = await asyncio.to_thread(subprocess.check_output, ["ps", "-eo", "args"], text=True)
    assert str(tmp_path) not in commands


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB, less than any environment takes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"Mounting a small disk takes root: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_is_one_sentence(small_disk: Path) -> None:
    with pytest.raises(ArtifactUnavailable, match=f"The disk that holds {small_disk} is full; free some space"):
        await Environments(small_disk).ensure(CONFIG)


async def test_an_environment_whose_interpreter_was_uninstalled_is_built_again(tmp_path: Path) -> None:
    shared = await shared_environments().ensure(CONFIG)
    copy = tmp_path / shared.path.name
    (copy / "bin").mkdir(parents=True)
    (copy / COMPLETE).touch()
    (copy / "bin" / "python").symlink_to("/nonexistent/python")
    again = await Environments(tmp_path).ensure(CONFIG)
    assert again.path == copy
    assert await imports(again, "import cog; print(cog.__version__)") == CONFIG.sdk_version


def test_model_authors_code_sees_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MILLRACE_SECRET", "AWS_SECRET_ACCESS_KEY", "REPLICATE_API_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, "hush")
    model = model_environment(Path("/venv"), Path("/home"), {"OWN": "1", "PATH": "/evil", "HOME": "/evil"})
    assert "hush" not in [*model.values(), *installer_environment().values()]
    assert (model["OWN"], model["HOME"]) == ("1", "/home")
    assert model["PATH"].startswith("/venv/bin:")
    assert "/evil" not in model["PATH"]
