"""Promise 6 on this machine: what runs a model belongs to an instance that lives.

Processes are known by the record their node keeps of them, containers by their labels and names, as the `docker`
command lists them. Neither is touched: a node removes what nobody wants.
"""

import asyncio
import shutil
from pathlib import Path

import orjson
import psutil
from sqlalchemy import select

from core.database import one_of
from core.doctor.checks import SHOWN, Check, Finding, NotChecked
from core.lifecycle import LIVE_INSTANCE
from core.resources import Resources
from core.settings import Settings
from core.tables import Instance

#: Containers are named after their instances; a spare has none yet, has never run, and holds nothing.
_NAME, _SPARE = "millrace-", "millrace-spare-"
#: An engine that restarts, or pulls through a full disk, may not answer at all.
_ENGINE_SECONDS = 10


async def _processes(resources: Resources) -> list[Finding]:
    folder = resources.settings.data / "instances"
    records = await asyncio.to_thread(_records, folder, resources.settings.installation)
    sentence = "Process {} runs instance {}, which is over; its node ({}) removes it when it is started again."
    over = await _over(resources, [record["instance_id"] for record in records])
    return [
        Finding(id, sentence.format(record["pid"], id, record["node"]))
        for record in records
        if (id := record["instance_id"]) in over
    ]


def _records(folder: Path, installation: str) -> list[dict]:
    """Of processes that are there."""
    found = [orjson.loads(path.read_bytes()) for path in folder.glob("*/container.json")] if folder.is_dir() else []
    return [record for record in found if record["installation"] == installation and _is_there(record)]


def _is_there(record: dict) -> bool:
    return record["pid"] is not None and psutil.pid_exists(record["pid"])


async def _containers(resources: Resources) -> list[Finding]:
    ids = await _labelled(resources.settings)
    sentence = "A container of instance {} is there, which is over; its node removes it when it is started again."
    return [Finding(id, sentence.format(id)) for id in sorted(await _over(resources, ids))]


async def _labelled(settings: Settings) -> list[str]:
    """The instances whose containers the engine of this machine has."""
    command = shutil.which("docker")
    if command is None or settings.runtime == "process":
        raise NotChecked("No node of this machine runs containers, or the `docker` command is not here.")
    label = f"label=millrace.installation={settings.installation}"
    child = await asyncio.create_subprocess_exec(
        *(command, "ps", "--all", "--filter", label, "--format", "{{.Names}}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_ENGINE_SECONDS):
            output, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        raise NotChecked("The container engine of this machine does not answer.") from None
    if child.returncode:
        raise NotChecked("The container engine of this machine does not answer.")
    names = output.decode().split()
    return [name.removeprefix(_NAME) for name in names if not name.startswith(_SPARE)]


async def _over(resources: Resources, ids: list[str]) -> set[str]:
    """Those of them that are no living instance."""
    async with resources.database.autocommit() as tx:
        rows = await tx.all(select(Instance.id).where(one_of(Instance.id, ids), Instance.status.in_(LIVE_INSTANCE)))
    return set(sorted(set(ids) - {row.id for row in rows})[: SHOWN + 1])


CHECKS = (
    Check("processes of models", "Every process that runs a model here belongs to a living instance.", _processes, 6),
    Check("containers", "Every container of ours here belongs to a living instance.", _containers, 6),
)
