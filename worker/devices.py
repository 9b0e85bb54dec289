"""This node's GPUs: how they are, what on them is not ours, and how much of their memory each Instance uses."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from core.errors import MillraceError
from core.log import get_logger
from worker.gpus import Gpu, list_gpus
from worker.runtimes.base import Runtime

log = get_logger()


class Devices:
    """`look` reads the GPUs; it blocks."""

    def __init__(self, runtimes: Sequence[Runtime], look: Callable[[], list[Gpu]] = list_gpus) -> None:
        self._runtimes = runtimes
        self._look = look

    async def look(self) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """The devices as a Node reports them; and for each Instance the memory it uses on the one where it is most."""
        gpus = await asyncio.to_thread(self._look)
        owners = {pid: await self._owner(pid) for pid in {process.pid for gpu in gpus for process in gpu.processes}}
        ours = {pid: instance_id for pid, instance_id in owners.items() if instance_id is not None}
        return [gpu.as_dict(ours) for gpu in gpus], _use(gpus, ours)

    async def _owner(self, pid: int) -> str | None:
        for runtime in self._runtimes:
            try:
                if (instance_id := await runtime.owner(pid)) is not None:
                    return instance_id
            except MillraceError as error:
                log.warning("owner of a process not found", pid=pid, error=str(error))
        return None


def _use(gpus: list[Gpu], ours: dict[int, str]) -> dict[str, int]:
    most: dict[str, int] = {}
    for gpu in gpus:
        here: dict[str, int] = {}
        for process in gpu.processes:
            if process.pid in ours and process.memory_bytes is not None:
                owner = ours[process.pid]
                here[owner] = here.get(owner, 0) + process.memory_bytes
        for owner, used in here.items():
            most[owner] = max(used, most.get(owner, 0))
    return most
