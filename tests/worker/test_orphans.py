"""Containers that serve no Instance go, sooner or later, and nobody is given their GPUs before."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete

from core import fleet
from core.bundles import digest
from core.ids import new_id
from core.lifecycle import InstanceStatus
from core.resources import Resources
from core.tables import Instance
from tests.support import factories
from tests.support.bundles import container_spec, process_runtime
from worker import orphans
from worker.orphans import Orphans
from worker.place import Place
from worker.runtimes.base import Artifact, Container
from worker.runtimes.process import ProcessRuntime

Start = Callable[..., Awaitable[Container]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "cog.yaml").write_text("run: run.py:Runner\n")
    (folder / "run.py").write_text(f"# {new_id()}\n")
    return folder


@pytest.fixture
async def runtime(tmp_path: Path, project: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = process_runtime(tmp_path / "data", project)
    yield runtime
    for container in await runtime.list():
        await runtime.stop(container, 0)


@pytest.fixture
def start(runtime: ProcessRuntime, project: Path) -> Start:
    async def start(instance_id: str, **changes: object) -> Container:
        artifact = Artifact("bundle", digest(project), {}, {})
        await runtime.ensure(artifact)
        return await runtime.start(replace(container_spec(artifact, instance_id), **changes))

    return start


def orphans_of(resources: Resources, runtime: ProcessRuntime, *known: str) -> Orphans:
    return Orphans(resources.database, [Place(runtime, None)], known.__contains__)


async def instance(resources: Resources, status: InstanceStatus | None) -> str:
    """None: its row is gone."""
    async with resources.database.transaction() as tx:
        id = await factories.add_instance(tx, await factories.add_node(tx), await factories.add_runnable(tx))
        if status is None:
            await tx.execute(delete(Instance).where(Instance.id == id))
        elif status is not InstanceStatus.READY:
            await fleet.move_instance(tx, id, InstanceStatus.READY, status)
    return id


async def left(runtime: ProcessRuntime) -> set[str]:
    return {container.instance_id for container in await runtime.list()}


async def test_one_whose_instance_is_over_goes_at_once(
    resources: Resources, runtime: ProcessRuntime, start: Start
) -> None:
    over, lives = await instance(resources, InstanceStatus.FAILED), await instance(resources, InstanceStatus.READY)
    await start(over)
    await start(lives)
    await orphans_of(resources, runtime).look()
    assert await left(runtime) == {lives}


async def test_one_that_nobody_has_heard_of_goes_after_a_grace(
    resources: Resources, runtime: ProcessRuntime, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    unheard, known = await instance(resources, None), await instance(resources, None)
    await start(unheard)
    await start(known)
    found = orphans_of(resources, runtime, known)
    await found.look()
    await found.look()
    assert await left(runtime) == {unheard, known}
    monkeypatch.setattr(orphans, "GRACE_SECONDS", 0.0)
    await found.look()
    assert await left(runtime) == {known}


async def test_a_gpu_is_given_to_nobody_while_an_unknown_container_holds_it(
    resources: Resources, runtime: ProcessRuntime, start: Start
) -> None:
    held, other, known = (uuid.uuid4().hex for _ in range(3))
    await start(held, gpu_uuids=("GPU-1", "GPU-2"))
    await start(other, gpu_uuids=("GPU-3",))
    await start(known, gpu_uuids=("GPU-2",))
    found = orphans_of(resources, runtime, known)
    await found.free(())
    assert await left(runtime) == {held, other, known}
    await found.free(["GPU-2"])
    assert await left(runtime) == {other, known}
