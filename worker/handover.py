"""Replaces the node's program by a new one under the same pid; what to go on with, and open sockets, stay in memory.

Whoever watches the pid notices nothing, and neither do the containers. What is handed over is one JSON document in a
memfd that the new program finds among its descriptors; nothing of it is ever on disk. Knows nothing of what it says.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import orjson
import psutil

from core.log import get_logger
from core.settings import process_environment

log = get_logger()

#: Of the document. One that says otherwise is not read, and its node begins anew.
VERSION = 1
#: New code that does not load within this is as broken as one that does not load.
_TRY_SECONDS = 60.0

_NAME = "millrace-handover"
_PROGRAM = ("-m", "worker", "node")
#: All that the new program has to have when it is started.
_TRIAL = "import worker.commands.node"
#: 0, 1 and 2 may be sockets, too.
_STANDARD = 2
#: From here until the new program listens for them, they wait instead of ending it.
_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


async def is_possible() -> bool:
    """Whether the code on disk loads; if not, whoever asked for a restart finds out why in the log, and all goes on."""
    trial = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _TRIAL),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=dict(process_environment()),
    )
    try:
        async with asyncio.timeout(_TRY_SECONDS):
            _, complaints = await trial.communicate()
    except TimeoutError:
        trial.kill()
        await trial.wait()
        complaints = b"it does not load in time"
    if trial.returncode == 0:
        return True
    last = complaints.decode(errors="replace").strip().splitlines()[-1:]
    log.error("not restarted: the new code does not load; what runs goes on", error="".join(last))
    return False


def hold_signals() -> None:
    """Until `listen`, in this program or the next; so that none is lost in between."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def replace(document: dict[str, Any], fds: Iterable[int], *, is_to_stop: bool) -> NoReturn:
    """Becomes the new program, once signals are held. `is_to_stop`: a SIGTERM was heard before, and is passed on.

    Raises `OSError`.
    """
    children = [child.pid for child in psutil.Process().children()]
    content = orjson.dumps({**document, "version": VERSION, "fds": [*fds], "children": children})
    memory = os.memfd_create(_NAME, 0)
    with os.fdopen(os.dup(memory), "wb") as stream:
        stream.write(content)
    for fd in fds:
        os.set_inheritable(fd, True)
    if is_to_stop:
        os.kill(os.getpid(), signal.SIGTERM)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(sys.executable, [sys.executable, *_PROGRAM])
    except OSError:
        listen()
        raise


def begin_anew() -> NoReturn:
    """As after a restart: nothing is handed over."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *_PROGRAM])


def listen() -> None:
    """From now on signals are heard, those that came meanwhile first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def descriptors(document: dict[str, Any]) -> list[int]:
    """All that the document of a node speaks of."""
    return [*document["listeners"].values(), *lines(document["instances"].values())]


def lines(instances: Iterable[dict[str, Any]]) -> list[int]:
    """Those by which containers are listened to."""
    runs = [run for instance in instances for run in instance["runs"].values()]
    found = [run["call"]["line"] for run in runs if run.get("call")]
    return [line["fd"] for line in found if line]


def inherited() -> dict[str, Any] | None:
    """What the program before this one has left. To be asked for once, and before any socket is opened."""
    memory = _find()
    if memory is None:
        return None
    with os.fdopen(memory, "rb") as stream:
        stream.seek(0)
        content = stream.read()
    try:
        document = orjson.loads(content)
        for fd in document["fds"]:
            os.set_inheritable(fd, False)
        if document["version"] == VERSION:
            return document
        problem = f"it is of version {document['version']}"
    except (ValueError, KeyError, TypeError, OSError) as error:
        problem = repr(error)
    log.error("what was handed over cannot be read, beginning anew", problem=problem)
    close(_sockets())
    return None


def _find() -> int | None:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # The one by which we look.
            if str(entry.readlink()).startswith(f"/memfd:{_NAME} "):
                return int(entry.name)
    return None


def _sockets() -> list[int]:
    """All of this process: an address that nobody serves, or a stream that nobody reads, must not stay open."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            if str(entry.readlink()).startswith("socket:"):
                found.append(int(entry.name))
    return [fd for fd in found if fd > _STANDARD]


def close(fds: Iterable[int]) -> None:
    for fd in fds:
        with suppress(OSError):  # Closed already.
            os.close(fd)


def reap(children: list[int]) -> None:
    """Takes note of the end of processes that the program before this one had started; removes them from the list."""
    for pid in [*children]:
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            ended = pid
        if ended:
            children.remove(pid)
