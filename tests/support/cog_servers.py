"""Real Cog servers of every family, on loopback, from virtual environments that are kept between runs.

Starts Cog as its images do, without a runtime of ours, so that only the client is under test.
"""

import asyncio
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from worker.cog import CogContainer
from worker.endpoint import Endpoint

STREAMING, CLASSIC, OLDEST = "0.23.1", "0.16.12", "0.9.26"
VERSIONS = (STREAMING, CLASSIC, OLDEST)
CACHE = Path(os.environ.get("MILLRACE_TEST_CACHE") or Path.home() / ".cache" / "millrace-tests").absolute()
PROJECTS = Path(__file__).parents[1] / "cog_projects"
INSPECTOR = Path(__file__).parents[2] / "worker" / "schema_inspector.py"
READY_SECONDS = 60.0
INSTANCE = "instance-1"

# Importing a model takes a second, and its schema does not change.
_inspected: dict[tuple[Path, str], dict[str, Any]] = {}
COG_YAML = 'build:\n  python_version: "3.11"\npredict: "predict.py:Predictor"\n'


@dataclass(frozen=True, slots=True)
class CogServer:
    """A running server. `kill` ends it as an out-of-memory kill of the whole container would."""

    url: str
    output_schema: dict[str, Any]
    process: subprocess.Popen[bytes]

    async def exited(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"exit code {code}"

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


class CogServers:
    """Starts servers with a common endpoint; those from `shared` live until the end of the session."""

    def __init__(self, http: aiohttp.ClientSession, endpoint: Endpoint, stack: AsyncExitStack) -> None:
        self.http = http
        self.endpoint = endpoint
        self._stack = stack
        self._shared: dict[tuple[str, str], CogServer] = {}

    async def shared(self, version: str, project: str) -> CogContainer:
        """A client of a server that no test may break."""
        if (version, project) not in self._shared:
            server = await self._stack.enter_async_context(cog_server(version, project, self.upload_url(version)))
            self._shared[version, project] = server
        return await self.ready(self._shared[version, project])

    @asynccontextmanager
    async def own(self, version: str, project: str, **options: Any) -> AsyncIterator[tuple[CogServer, CogContainer]]:
        """A server and its client, for one test to break."""
        async with cog_server(version, project, self.upload_url(version), **options) as server:
            yield server, await self.ready(server)

    def client(self, server: CogServer, slots: int = 1) -> CogContainer:
        inbox = self.endpoint.inbox(INSTANCE)
        return CogContainer(server.url, session=self.http, hooks=inbox, slots=slots, output_schema=server.output_schema)

    async def ready(self, server: CogServer) -> CogContainer:
        client = self.client(server)
        await client.wait_until_ready(READY_SECONDS, server.exited)
        return client

    def upload_url(self, version: str) -> str | None:
        """Newer Cog gives files inline here; see `wants_files_inline`."""
        return None if version == STREAMING else self.endpoint.upload_url(INSTANCE)


@asynccontextmanager
async def cog_server(
    version: str,
    project: str,
    upload_url: str | None = None,
    *,
    slots: int = 1,
    streaming: bool = True,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[CogServer]:
    """`project` is the name of a folder in `tests/cog_projects`, or the text of a predict.py."""
    python = await asyncio.to_thread(_environment, version)
    with tempfile.TemporaryDirectory(prefix="millrace-cog-") as scratch:
        folder = Path(scratch) / "src"
        schema = await asyncio.to_thread(_prepare, folder, python, project, streaming)
        port = _free_port()
        process = _spawn(folder, python, port, upload_url, {"COG_MAX_CONCURRENCY": str(slots), **(environment or {})})
        server = CogServer(f"http://127.0.0.1:{port}", schema, process)
        try:
            yield server
        finally:
            server.kill()


def _spawn(
    folder: Path, python: Path, port: int, upload_url: str | None, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    command = [str(python), "-m", "cog.server.http", "--host", "127.0.0.1", "--await-explicit-shutdown", "true"]
    variables = {
        **os.environ,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "TMPDIR": str(folder.parent),
        "PORT": str(port),
        "COG_PREDICT_TYPE_STUB": "predict.py:Predictor",
        "COG_THROTTLE_RESPONSE_INTERVAL": "0.1",
        **environment,
    }
    with (folder.parent / "log").open("wb") as log:
        return subprocess.Popen(
            command + (["--upload-url", upload_url] if upload_url else []),
            cwd=folder,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _prepare(folder: Path, python: Path, project: str, streaming: bool) -> dict[str, Any]:
    """Lays out a project with its schema file; returns its `Output` schema."""
    if "\n" in project:
        folder.mkdir()
        (folder / "predict.py").write_text(project)
        (folder / "cog.yaml").write_text(COG_YAML)
    else:
        shutil.copytree(PROJECTS / project, folder)
    if (python, project) not in _inspected:
        _inspected[python, project] = _inspect(folder, python)
    document = _inspected[python, project]
    document["paths"]["/predictions"]["post"]["x-cog-streaming"] = streaming
    (folder / ".cog").mkdir(exist_ok=True)
    (folder / ".cog" / "openapi_schema.json").write_bytes(orjson.dumps(document))
    return document["components"]["schemas"]["Output"]


def _inspect(folder: Path, python: Path) -> dict[str, Any]:
    result = folder.parent / "schema.json"
    command = [str(python), "-I", str(INSPECTOR), str(result), "predict.py:Predictor"]
    environment = {**os.environ, "COG_PREDICT_TYPE_STUB": "predict.py:Predictor", "TMPDIR": str(folder.parent)}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=READY_SECONDS)
    inspected = orjson.loads(result.read_bytes())
    if "error" in inspected:
        raise RuntimeError(inspected["error"])
    return inspected["openapi_schema"]


def _environment(version: str) -> Path:
    """The python of a virtual environment with this Cog; the first call builds it, in half a minute."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"cog-{version}"
    python = folder / "bin" / "python"
    with (CACHE / f"cog-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "-q", f"cog=={version}"], check=True)
            (folder / "built").touch()
    return python


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
