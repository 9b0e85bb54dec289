"""What `millrace up` looks at before it starts anything. Each refusal is a sentence that says what to do."""

import errno
import fcntl
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from cli.errors import Refusal

# An empty database, the logs of a day and hello-world take a fraction of it; a disk this full fails within hours.
_FREE_BYTES = 1024**3


#: Tells `up` to restart its processes; SIGHUP means there that its terminal is gone.
RESTART_SIGNAL = signal.SIGUSR1


def linux() -> None:
    if shutil.which("setpriv") is None:
        raise Refusal("There is no setpriv; `millrace up` needs Linux with util-linux, as Debian and Ubuntu have it.")


def writable(data: Path) -> None:
    """Makes the folder if it is missing. Only its owner may enter it: it holds keys and other people's files."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Refusal(no_space(data)) from None
        raise Refusal(
            f"The data folder {data} cannot be written ({error.strerror}); set MILLRACE_DATA to one that can."
        ) from None


def free_space(data: Path) -> None:
    if shutil.disk_usage(data).free < _FREE_BYTES:
        raise Refusal(no_space(data))


def no_space(data: Path) -> str:
    free = shutil.disk_usage(data).free // 1024**2
    return f"The disk that holds {data} is full ({free} MiB are free): free at least 1 GiB, or set MILLRACE_DATA."


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Holds the data folder for this process; the kernel lets go of it however the process ends."""
    with (data / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Refusal(
                f"Millrace already runs on {data} (process {file.read().strip() or 'unknown'}); "
                "stop it first, or set MILLRACE_DATA and MILLRACE_PORT to run another."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def tell_to_restart(data: Path) -> int:
    """Tells whoever holds the data folder, and returns its pid. Raises `Refusal` where nobody does."""
    refusal = Refusal(f"Millrace does not run on {data}; start it with `millrace up`.")
    if not (data / "lock").exists():
        raise refusal
    with (data / "lock").open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = int(file.read())
            os.kill(pid, RESTART_SIGNAL)
            return pid
    raise refusal


def port_free(host: str, port: int, setting: str = "MILLRACE_PORT") -> None:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Refusal(f"Port {port} is in use{_by_whom(port)}; stop that, or set {setting}.") from None
        raise Refusal(
            f"Nobody can listen on {host} port {port} ({error.strerror}); set MILLRACE_HOST or {setting}."
        ) from None


def _by_whom(port: int) -> str:
    """The process that listens there, where we may see it."""
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.Error:
                break
    return ""
