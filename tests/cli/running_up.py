"""`millrace up` as its user runs it: a command, on a data folder and a port of its own, with hello-world alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.support.bundles import data_folder
from tests.support.ports import free_port

MILLRACE = Path(sys.executable).with_name("millrace")
MODELS = Path(__file__).parents[2] / "cog_models"
READY_SECONDS = 180
STOP_SECONDS = 90


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"It is not so after {seconds} seconds."
        time.sleep(0.05)


class Up:
    def __init__(self, folder: Path) -> None:
        self.data = data_folder(folder / "data")
        self.port = free_port()
        self._output = folder / "output"
        self.models = folder / "models"
        if not self.models.exists():
            shutil.copytree(MODELS / "hello-world", self.models / "hello-world")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MILLRACE_DATA": str(self.data),
            "MILLRACE_PORT": str(self.port),
            "MILLRACE_MODELS": str(self.models),
            "MILLRACE_RUNTIME": "process",
            "MILLRACE_NODE_NAME": f"up-{self.port}",
        }

    @property
    def output(self) -> str:
        return self._output.read_text()

    def start(self) -> dict[str, Any]:
        """Returns what ready.json says."""
        wait_until(lambda: not (self.data / "ready.json").exists())
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [MILLRACE, "up"], env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        self.wait_for((self.data / "ready.json").exists, READY_SECONDS)
        return json.loads((self.data / "ready.json").read_text())

    def refused(self) -> str:
        """Runs it to its end, which must not be a success; returns its one line on stderr."""
        done = subprocess.run(
            [MILLRACE, "up"], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        lines = done.stderr.splitlines()
        assert done.returncode != 0
        assert len(lines) == 1, done.stderr
        return lines[0]

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def pids(self) -> dict[str, int]:
        """What it runs, by name."""
        entries = json.loads((self.data / "run" / "processes.json").read_text())
        return {entry["name"]: entry["pid"] for entry in entries}

    def started(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in self.pids().values()]

    def wait_for(self, is_so: Callable[[], bool], seconds: float = 60) -> None:
        """Fails at once should `up` end."""
        assert self.process is not None
        process = self.process
        wait_until(lambda: is_so() or process.poll() is not None, seconds)
        assert is_so(), self.output

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
