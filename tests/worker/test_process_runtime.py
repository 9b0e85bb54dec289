"""The process runtime: real Cog servers, killed, orphaned, adopted and stopped."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import structlog

from core.bundles import digest
from core.settings import Settings
from tests.support.bundles import bundle_artifact, container_spec, data_folder, fetch_from, health, process_runtime
from worker.instances import LOG_BYTES, InstanceFolder
from worker.runtimes import process
from worker.runtimes.base import Artifact, ArtifactUnavailable, Container, Exit
from worker.runtimes.process import ProcessRuntime

EXIT_TIMEOUT_SECONDS = 30

MODEL = """
import os, subprocess, sys
from pathlib import Path
from cog import BaseRunner, Input

class Runner(BaseRunner):
    def setup(self) -> None:
        Path("scratch").write_text("mine")

    def run(self, what: str = Input(choices=["environment", "daemon", "weights", "write"]), text: str = "") -> str:
        if what == "environment":
            return repr(dict(os.environ))
        if what == "daemon":
            code = "import os, time; os.setsid() if os.getpid() != os.getsid(0) else None; time.sleep(600)"
            return str(subprocess.Popen([sys.executable, "-c", code], start_new_session=True).pid)
        if what == "weights":
            return f"{Path('weights.bin').stat().st_size} {os.path.islink('weights.bin')}"
        Path("written").write_text(text)
        return " ".join(sorted({path.name for path in Path(".").iterdir()} & {"written", "scratch"}))
"""


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "cog.yaml").write_text('run: run.py:Runner\nenvironment: ["FROM_YAML=yes", "PATH=/evil"]\n')
    (folder / "run.py").write_text(MODEL)
    (folder / "weights.bin").write_bytes(b"\0" * 2_000_000)
    return folder


@pytest.fixture(scope="module")
async def artifact(project: Path) -> Artifact:
    return await bundle_artifact(project)


@pytest.fixture
async def runtime(tmp_path: Path, project: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = process_runtime(tmp_path / "data", project)
    yield runtime
    for container in await runtime.list():
        await runtime.stop(container, grace_seconds=0)
    await runtime.close()


async def predict(container: Container, http: aiohttp.ClientSession, **given: str) -> Any:
    async with http.post(f"{container.base_url}/predictions", json={"input": given}) as response:
        return (await response.json())["output"]


async def exit_of(runtime: ProcessRuntime, container: Container) -> Exit:
    async with asyncio.timeout(EXIT_TIMEOUT_SECONDS):
        while (found := await runtime.exited(container)) is None:  # noqa: ASYNC110 (the protocol is to ask)
            await asyncio.sleep(0.02)
    return found


def spawn(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def pid_of(data: Path, container: Container) -> int:
    record = InstanceFolder(data / "instances" / container.instance_id).read_record()
    assert record is not None
    assert record.pid is not None
    return record.pid


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_a_bundle_runs_answers_and_leaves_nothing_when_stopped(
    tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact, http: aiohttp.ClientSession
) -> None:
    await runtime.ensure(artifact)
    container = await runtime.start(container_spec(artifact, "one", gpu_uuids=("GPU-1",)))
    assert (await health(container, http))["status"] == "READY"
    assert await predict(container, http, what="weights") == "2000000 True"
    assert await runtime.list() == [container]
    assert await runtime.exited(container) is None
    assert "Server ready" in await runtime.logs(container)
    server = psutil.Process(pid_of(tmp_path / "data", container))
    family = [server, *server.children(recursive=True)]
    assert {Path(f"/proc/{process.pid}/oom_score_adj").read_text() for process in family} == {"500\n"}
    await runtime.stop(container, grace_seconds=10)
    assert not [process for process in family if process.is_running()]
    assert await runtime.list() == []
    assert list((tmp_path / "data" / "instances").iterdir()) == []


async def test_a_server_listens_on_loopback_only(
    tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact, http: aiohttp.ClientSession
) -> None:
    container = await runtime.start(container_spec(artifact, "one"))
    await health(container, http)
    server = psutil.Process(pid_of(tmp_path / "data", container))
    listening = [each for each in server.net_connections() if each.status == psutil.CONN_LISTEN]
    assert {each.laddr.ip for each in listening} == {"127.0.0.1"}
    assert container.base_url == f"http://127.0.0.1:{listening[0].laddr.port}"


async def test_a_model_gets_what_it_needs_and_no_credentials(
    tmp_path: Path,
    runtime: ProcessRuntime,
    artifact: Artifact,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MILLRACE_SECRET", "hush")
    monkeypatch.setenv("REPLICATE_API_TOKEN", "hush")
    spec = container_spec(artifact, "one", gpu_uuids=("GPU-1", "GPU-2"), environment={"OWN": "1"}, slots=1)
    container = await runtime.start(spec)
    await health(container, http)
    seen = eval(await predict(container, http, what="environment"))
    folder = tmp_path / "data" / "instances" / "one"
    assert "hush" not in seen.values()
    assert not [name for name in seen if name.startswith("MILLRACE")]
    assert (seen["OWN"], seen["FROM_YAML"], seen["CUDA_VISIBLE_DEVICES"]) == ("1", "yes", "GPU-1,GPU-2")
    assert (seen["HOME"], seen["TMPDIR"]) == (str(folder / "tmp"), str(folder / "tmp"))
    assert "/evil" not in seen["PATH"]


async def test_two_instances_of_one_bundle_do_not_share_a_working_folder(
    tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact, http: aiohttp.ClientSession
) -> None:
    containers = [await runtime.start(container_spec(artifact, name)) for name in ("one", "two")]
    for container in containers:
        await health(container, http)
        assert await predict(container, http, what="write", text=container.id) == "scratch written"
    written = [(tmp_path / "data" / "instances" / name / "work" / "written").read_text() for name in ("one", "two")]
    assert written == ["one", "two"]
    assert digest(tmp_path / "data" / "bundles" / artifact.reference) == artifact.reference


async def test_a_killed_server_says_so_and_its_orphans_go_with_it(
    tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact, http: aiohttp.ClientSession
) -> None:
    container = await runtime.start(container_spec(artifact, "one"))
    await health(container, http)
    daemon = int(await predict(container, http, what="daemon"))
    os.kill(pid_of(tmp_path / "data", container), signal.SIGKILL)
    found = await exit_of(runtime, container)
    assert found == Exit(-9, "It was killed by SIGKILL, perhaps because this machine ran out of memory.")
    assert is_alive(daemon)
    assert await runtime.list() == [container]
    await runtime.stop(container, grace_seconds=5)
    assert not is_alive(daemon)


async def test_a_server_that_cannot_start_gives_its_code_and_its_log(
    runtime: ProcessRuntime, artifact: Artifact
) -> None:
    container = await runtime.start(container_spec(artifact, "one", environment={"PYTHONHOME": "/nonexistent"}))
    assert await exit_of(runtime, container) == Exit(1, "It ended with code 1. Its logs may say why.")
    assert "No module named 'encodings'" in await runtime.logs(container)


NODE = """
import asyncio, sys
from pathlib import Path
from tests.support.bundles import bundle_artifact, container_spec, process_runtime

async def main() -> None:
    runtime = process_runtime(Path(sys.argv[1]), Path(sys.argv[2]))
    container = await runtime.start(container_spec(await bundle_artifact(Path(sys.argv[2])), "one"))
    print("started", container.base_url, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_containers_outlive_a_killed_node_and_are_adopted_by_the_next(
    tmp_path: Path, runtime: ProcessRuntime, project: Path, http: aiohttp.ClientSession
) -> None:
    node = spawn(sys.executable, "-c", NODE, str(tmp_path / "data"), str(project))
    assert node.stdout is not None
    while not (line := await asyncio.to_thread(node.stdout.readline)).startswith("started"):
        assert node.poll() is None, line
    node.kill()
    await asyncio.to_thread(node.communicate)
    [container] = await runtime.list()
    assert container.base_url == line.split()[1]
    assert (await health(container, http))["status"] == "READY"
    assert await runtime.exited(container) is None
    server = pid_of(tmp_path / "data", container)
    os.kill(server, signal.SIGKILL)
    found = await exit_of(runtime, container)
    assert found.code is None
    assert "restarted" in found.reason
    await runtime.stop(container, grace_seconds=5)
    assert not is_alive(server)
    assert await runtime.list() == []


async def test_an_adopted_container_is_stopped_like_our_own(
    tmp_path: Path, runtime: ProcessRuntime, project: Path, artifact: Artifact, http: aiohttp.ClientSession
) -> None:
    container = await runtime.start(container_spec(artifact, "one"))
    await health(container, http)
    server = pid_of(tmp_path / "data", container)
    await runtime.close()
    successor = process_runtime(tmp_path / "data", project)
    assert await successor.list() == [container]
    await successor.stop(container, grace_seconds=10)
    assert not is_alive(server)


async def test_a_recycled_pid_is_never_touched(
    tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact, http: aiohttp.ClientSession
) -> None:
    container = await runtime.start(container_spec(artifact, "one"))
    await health(container, http)
    os.kill(pid_of(tmp_path / "data", container), signal.SIGKILL)
    await exit_of(runtime, container)
    stranger = spawn("sleep", "600")
    try:
        folder = InstanceFolder(tmp_path / "data" / "instances" / "one")
        record = folder.read_record()
        assert record is not None
        folder.write_record(replace(record, pid=stranger.pid))
        adopter = process_runtime(tmp_path / "data", node_name="test-node")
        assert (await exit_of(adopter, container)).code is None
        await adopter.stop(container, grace_seconds=1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()


async def test_another_nodes_containers_are_neither_listed_nor_stopped(
    tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact
) -> None:
    container = await runtime.start(container_spec(artifact, "one"))
    neighbour = process_runtime(tmp_path / "data", node_name="neighbour")
    assert await neighbour.list() == []
    with pytest.raises(PermissionError, match="belongs to node test-node"):
        await neighbour.stop(container, grace_seconds=0)
    assert await runtime.exited(container) is None


async def test_a_node_that_died_while_starting_leaves_a_record_to_clean_up(
    tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact
) -> None:
    container = await runtime.start(container_spec(artifact, "one"))
    server = pid_of(tmp_path / "data", container)
    folder = InstanceFolder(tmp_path / "data" / "instances" / "one")
    record = folder.read_record()
    assert record is not None
    folder.write_record(replace(record, pid=None, started=None, boot_id=None))
    successor = process_runtime(tmp_path / "data")
    assert await successor.list() == [container]
    assert "while it was starting it" in (await exit_of(successor, container)).reason
    await successor.stop(container, grace_seconds=0)
    assert not is_alive(server)


async def test_an_instance_is_started_once(runtime: ProcessRuntime, artifact: Artifact) -> None:
    container = await runtime.start(container_spec(artifact, "one"))
    with pytest.raises(FileExistsError, match="stop it first"):
        await runtime.start(container_spec(artifact, "one"))
    assert await runtime.exited(container) is None


@pytest.mark.parametrize("instance_id", ["../one", "", "a/b", ".hidden"])
async def test_an_instance_id_cannot_leave_its_folder(
    runtime: ProcessRuntime, artifact: Artifact, instance_id: str
) -> None:
    with pytest.raises(ValueError, match="cannot name"):
        await runtime.start(container_spec(artifact, instance_id))


async def test_a_long_log_keeps_its_end(tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact) -> None:
    container = await runtime.start(container_spec(artifact, "one"))
    path = tmp_path / "data" / "instances" / "one" / "log"
    with path.open("ab") as log:
        log.write(b"x" * (2 * LOG_BYTES) + b"the end\n")
    await runtime.exited(container)
    assert path.stat().st_size < LOG_BYTES + 100_000
    assert "the end" in await runtime.logs(container)
    assert len(await runtime.logs(container, tail_bytes=10)) <= 10


async def test_an_archive_that_is_not_the_bundle_it_claims_to_be_is_refused(
    tmp_path: Path, artifact: Artifact, project: Path
) -> None:
    other = "0" * 64

    async def fetch_another(_reference: str, archive: Path) -> None:
        await fetch_from(project)(artifact.reference, archive)

    impostor = ProcessRuntime(Settings(data=tmp_path / "data"), fetch_another)
    with pytest.raises(ArtifactUnavailable, match=f"bundle {other} holds {artifact.reference}"):
        await impostor.ensure(replace(artifact, reference=other))
    with pytest.raises(ArtifactUnavailable, match="is not the digest of a bundle"):
        await impostor.ensure(replace(artifact, reference="../../etc"))
    assert [path.name for path in (tmp_path / "data" / "bundles").iterdir()] == [f"{other}.lock"]


async def test_ensuring_one_bundle_twice_at_once_fetches_it_once(
    tmp_path: Path, artifact: Artifact, project: Path
) -> None:
    fetched: list[str] = []

    async def fetch(reference: str, archive: Path) -> None:
        fetched.append(reference)
        await fetch_from(project)(reference, archive)

    runtime = ProcessRuntime(Settings(data=data_folder(tmp_path)), fetch)
    await asyncio.gather(runtime.ensure(artifact), runtime.ensure(artifact))
    assert fetched == [artifact.reference]


async def test_a_bundle_is_inspected_in_its_own_environment(runtime: ProcessRuntime, artifact: Artifact) -> None:
    inspection = await runtime.inspect(artifact.reference)
    assert inspection.openapi_schema == artifact.openapi_schema
    assert inspection.concurrency == 1


def test_it_says_once_that_it_isolates_nothing(tmp_path: Path) -> None:
    process._warn.cache_clear()
    with structlog.testing.capture_logs() as logs:
        process_runtime(tmp_path)
        process_runtime(tmp_path)
    assert ["without isolation" in line["event"] for line in logs] == [True]


async def test_the_record_is_readable_by_people(tmp_path: Path, runtime: ProcessRuntime, artifact: Artifact) -> None:
    await runtime.start(container_spec(artifact, "one", gpu_uuids=("GPU-1",)))
    record = json.loads((tmp_path / "data" / "instances" / "one" / "container.json").read_text())
    assert (record["installation"], record["node"], record["instance_id"]) == ("millrace", "test-node", "one")
    assert record["gpu_uuids"] == ["GPU-1"]
