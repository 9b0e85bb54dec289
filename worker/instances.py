"""The folder of one Instance that runs as a process: its project, its log, and the record that finds it again.

container.json   who we are, and which process is ours
work/            the project; the model's current directory
tmp/             its TMPDIR and HOME
log              what it writes
"""

import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import orjson
import psutil

from core.bundles import files
from worker.runtimes.base import Container
from worker.runtimes.launch import SCHEMA_FILE

RECORD = "container.json"
# Larger files are links to the unpacked bundle: weights are read, not written, and copying them delays every start.
COPY_BYTES = 1024 * 1024
# Keep this much of a log that has grown over twice as long.
LOG_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Record:
    """Labels, as a container engine would keep them. `pid` is None until the process runs.

    A pid alone may be somebody else's by now: it is ours if it also started at `started` on the same boot.
    """

    installation: str
    node: str
    instance_id: str
    port: int
    gpu_uuids: tuple[str, ...]
    pid: int | None = None
    started: float | None = None
    boot_id: str | None = None

    @property
    def container(self) -> Container:
        return Container(
            self.instance_id, self.instance_id, f"http://127.0.0.1:{self.port}", self.gpu_uuids, self.instance_id
        )

    def running_as(self, pid: int) -> Self:
        return replace(self, pid=pid, started=start_time(pid), boot_id=boot_id())

    def process(self) -> psutil.Process | None:
        """The server process, unless it is gone."""
        if self.pid is None or self.boot_id != boot_id() or start_time(self.pid) != self.started:
            return None
        try:
            process = psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return None
        return process if is_alive(process) else None


class InstanceFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.work = path / "work"
        self.tmp = path / "tmp"
        self.log = path / "log"

    def prepare(self, bundle: Path, openapi_schema: dict[str, Any]) -> None:
        """A private copy of the project: a model may write into its current directory."""
        self.tmp.mkdir(parents=True)
        self.work.mkdir()
        for file in files(bundle):
            target = self.work / file.relative
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.path.stat().st_size > COPY_BYTES:
                file.path.chmod(0o555 if file.executable else 0o444)
                target.symlink_to(file.path)
            else:
                shutil.copy(file.path, target)
        schema = self.work / SCHEMA_FILE
        schema.parent.mkdir()
        schema.write_bytes(orjson.dumps(openapi_schema))

    def write_record(self, record: Record) -> None:
        """In one step: a record is read whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.path / f"{RECORD}.partial"
        partial.write_bytes(orjson.dumps(asdict(record)))
        partial.rename(self.path / RECORD)

    def read_record(self) -> Record | None:
        try:
            fields = orjson.loads((self.path / RECORD).read_bytes())
        except FileNotFoundError:
            return None
        return Record(**{**fields, "gpu_uuids": tuple(fields["gpu_uuids"])})

    def tail(self, count: int) -> str:
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - count))
                return stream.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def bound_log(self) -> None:
        """Drop the older part of a long log. The process appends, so it goes on at the new end."""
        if not self.log.exists() or self.log.stat().st_size <= 2 * LOG_BYTES:
            return
        tail = self.tail(LOG_BYTES)
        with self.log.open("r+b") as stream:
            stream.truncate(0)
        with self.log.open("ab") as stream:
            stream.write(f"[earlier output dropped]\n{tail}".encode())

    def members(self) -> list[psutil.Process]:
        """Every living process that belongs here, also one that left its parent and its session."""
        record = self.read_record()
        leader = record.process() if record else None
        found: dict[int, psutil.Process] = {}
        if leader is not None:
            with suppress(psutil.NoSuchProcess):
                found = {process.pid: process for process in [leader, *leader.children(recursive=True)]}
        for process in psutil.process_iter():
            try:
                if process.pid not in found and self._owns(process, record, leader):
                    found[process.pid] = process
            except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
                continue
        return [process for process in found.values() if is_alive(process)]

    def _owns(self, process: psutil.Process, record: Record | None, leader: psutil.Process | None) -> bool:
        """By its HOME, which only our processes have; or by its session, which a dead leader alone does not prove."""
        if process.environ().get("HOME") == str(self.tmp):
            return True
        if record is None or record.pid is None or os.getsid(process.pid) != record.pid:
            return False
        return leader is not None or Path(process.cwd()).is_relative_to(self.path)


def owner_of(pid: int, below: Path) -> str | None:
    """The Instance with a folder `below` to which the process, or one it descends from, belongs."""
    try:
        process = psutil.Process(pid)
        for each in [process, *process.parents()]:
            with suppress(psutil.AccessDenied):
                home = Path(each.environ().get("HOME", ""))
                if home.is_relative_to(below) and home != below:
                    return home.relative_to(below).parts[0]
    except psutil.NoSuchProcess:
        return None
    return None


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_time(pid: int) -> float | None:
    """Clock ticks since boot, which unlike a date does not move when the clock is set."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
