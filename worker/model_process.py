"""What every child that runs a model author's code has in common: a scrubbed environment, and no way to outlive us.

An installer, an inspector and a server are such children; none of them sees a Millrace setting or a credential.
"""

import asyncio
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.settings import process_environment

# An allow-list, because a deny-list forgets: credentials come in every spelling.
INHERITED = (
    *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
# pip besides needs its configuration and its cache.
INSTALLER_PREFIXES = ("PIP_", "XDG_")
KEPT_LINES = 1000
CHUNK_BYTES = 64 * 1024


def model_environment(venv: Path, home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """For a process that runs the model. `python` is the venv's: Cog starts its worker by that name."""
    inherited = _inherited()
    return {
        **extra,
        **inherited,
        "PATH": f"{venv / 'bin'}:{inherited.get('PATH', os.defpath)}",
        "HOME": str(home),
        "VIRTUAL_ENV": str(venv),
        "PYTHONUNBUFFERED": "1",
    }


def installer_environment() -> dict[str, str]:
    """For pip, which runs package authors' code, but has to find the index that this machine is set up for."""
    ours = process_environment()
    own = {name: value for name, value in ours.items() if name.startswith(INSTALLER_PREFIXES)}
    return {**own, **_inherited("HOME", "TMPDIR")}


def _inherited(*more: str) -> dict[str, str]:
    ours = process_environment()
    return {name: ours[name] for name in (*INHERITED, *more) if name in ours}


@dataclass(frozen=True, slots=True)
class Finished:
    """`lines` are the last ones it wrote."""

    code: int
    lines: tuple[str, ...]


async def run(
    command: list[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    timeout_seconds: float,
    on_line: Callable[[str], None] | None = None,
    pass_fds: tuple[int, ...] = (),
) -> Finished:
    """Run to the end, stdout and stderr as one. Its whole group is killed at the deadline or when we are cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=dict(environment),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        pass_fds=pass_fds,
    )
    tail: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        async with asyncio.timeout(timeout_seconds):
            async for line in _lines(process.stdout):
                tail.append(line)
                if on_line:
                    on_line(line)
            code = await process.wait()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return Finished(code, tuple(tail))


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    """Lines of any length; `StreamReader` itself refuses long ones."""
    assert stream is not None
    rest = b""
    while chunk := await stream.read(CHUNK_BYTES):
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")
