"""Millrace on a data folder of its own, for as long as a measurement takes, and what its processes cost."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil

_START_SECONDS = 300
_STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Instance:
    url: str
    token: str
    data: Path
    process: psutil.Process

    def containers(self) -> dict[str, str]:
        """Base URL of each running container by its Instance."""
        found = {}
        for record in self.data.glob("instances/*/container.json"):
            document = orjson.loads(record.read_bytes())
            found[document["instance_id"]] = f"http://127.0.0.1:{document['port']}"
        return found

    def cpu_seconds(self) -> dict[str, float]:
        """User and system time so far, by role: what `millrace up` started, and the model containers."""
        used: dict[str, float] = {}
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                times, role = process.cpu_times(), _role(process)
            except psutil.NoSuchProcess:
                continue
            used[role] = used.get(role, 0.0) + times.user + times.system
        return used


def _role(process: psutil.Process) -> str:
    """`millrace up` names its own processes; a model is whatever runs below its Cog server."""
    name = process.name()
    if name.startswith("millrace-"):
        return name.removeprefix("millrace-")
    if name in ("postgres", "redis-server"):
        return name.removesuffix("-server")
    line = " ".join(process.cmdline())
    return "model" if "cog.server" in line or "coglet" in line or "multiprocessing" in line else "other"


@contextmanager
def running(models: Path, port: int) -> Iterator[Instance]:
    """Starts `millrace up` with these models and stops it again. Environments are kept between runs."""
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        data = Path(folder)
        cache = Path(os.environ.get("MILLRACE_BENCH_CACHE", Path.home() / ".cache" / "millrace-bench"))
        (cache / "environments").mkdir(parents=True, exist_ok=True)
        (data / "environments").symlink_to(cache / "environments")
        settings = {"MILLRACE_DATA": folder, "MILLRACE_PORT": str(port), "MILLRACE_MODELS": str(models)}
        settings |= {"MILLRACE_RUNTIME": "process", "MILLRACE_HOST": "127.0.0.1"}
        # Counted like everybody's calls, and never refused.
        settings |= {f"MILLRACE_RATE_{kind}_PER_MINUTE": "100000000" for kind in ("CREATES", "CALLS")}
        with (data / "up.log").open("wb") as log:
            up = subprocess.Popen(
                [Path(sys.executable).with_name("millrace"), "up"],
                env={**os.environ, **settings},
                stdout=log,
                stderr=log,
            )
        try:
            ready = _wait_ready(data, up)
            yield Instance(f"http://127.0.0.1:{port}", ready["token"], data, psutil.Process(up.pid))
        finally:
            up.terminate()
            up.wait(_STOP_SECONDS)


def _wait_ready(data: Path, up: subprocess.Popen) -> dict[str, str]:
    deadline = time.monotonic() + _START_SECONDS
    while not (data / "ready.json").exists():
        if up.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"millrace up did not get ready:\n{(data / 'up.log').read_text()}")
        time.sleep(0.1)
    return orjson.loads((data / "ready.json").read_bytes())
