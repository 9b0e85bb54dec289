"""A lock between processes on one machine, held by an open file: whoever dies lets go of it.

Knows nothing of what is locked.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

# flock cannot be awaited, and a thread blocked in it outlives a cancelled task: ask again this often instead.
RETRY_SECONDS = 0.2


@asynccontextmanager
async def exclusive(path: Path) -> AsyncIterator[int]:
    """Hold the lock `path`, waiting for it as long as it takes. Gives its descriptor.

    A child process that inherits the descriptor keeps the lock until it ends too, should we be killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try(descriptor):  # noqa: ASYNC110 (no event tells of another process)
            await asyncio.sleep(RETRY_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
