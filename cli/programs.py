"""Runs a program to its end, line by line; it ends with us, however we end."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence


class ProgramFailed(Exception):
    """It did not exit with 0; the message is the last line it wrote to stderr."""


async def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    on_line: Callable[[str], None] = lambda line: None,
    privileges: Sequence[str] = (),
) -> None:
    """Calls `on_line` with each line of its output."""
    process = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", *privileges, *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.create_task(process.stderr.read())
    try:
        async for line in process.stdout:
            on_line(line.decode(errors="replace").rstrip())
        lines = (await complaints).decode(errors="replace").strip().splitlines()
        if status := await process.wait():
            raise ProgramFailed(lines[-1] if lines else f"exit status {status}")
    finally:
        complaints.cancel()
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
