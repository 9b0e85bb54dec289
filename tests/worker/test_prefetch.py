"""A published Version is on every node that may run it before anybody calls it."""

from pathlib import Path

import pytest
from sqlalchemy import select, update

from core.bundles import digest
from core.ids import new_id
from core.resources import Resources
from core.tables import Node, Version
from tests.support import factories
from tests.support.bundles import process_runtime
from worker.life import Life
from worker.prefetch import Prefetch
from worker.runtimes.process import ProcessRuntime

PLENTY = 1024**4


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "cog.yaml").write_text("run: run.py:Runner\n")
    (folder / "run.py").write_text(f"# {new_id()}\n")
    return folder


@pytest.fixture
def runtime(tmp_path: Path, project: Path) -> ProcessRuntime:
    return process_runtime(tmp_path / "data", project)


async def publish(resources: Resources, reference: str, **fields: object) -> None:
    async with resources.database.transaction() as tx:
        runnable = await factories.add_runnable(tx)
        changes = {"artifact": reference, **fields}
        await tx.execute(update(Version).where(Version.id == runnable.version_id).values(**changes))


async def life_of(resources: Resources, **node: object) -> Life:
    async with resources.database.transaction() as tx:
        row = await factories.add_node(tx, **node)
    return Life(resources, row.boot_id, row.id)


async def present(resources: Resources, life: Life) -> list[str]:
    async with resources.database.autocommit() as tx:
        return await tx.scalar(select(Node.artifacts).where(Node.id == life.node_id))


async def test_what_is_published_is_fetched_and_reported(
    resources: Resources, tmp_path: Path, project: Path, runtime: ProcessRuntime, clean_database: None
) -> None:
    reference, life = digest(project), await life_of(resources)
    await publish(resources, reference)
    await Prefetch(resources, [runtime], lambda path: PLENTY).look(life)
    assert (tmp_path / "data/bundles" / reference / "run.py").exists()
    assert await present(resources, life) == [reference]


async def test_what_this_node_may_not_run_is_not_fetched(
    resources: Resources, tmp_path: Path, project: Path, runtime: ProcessRuntime, clean_database: None
) -> None:
    life = await life_of(resources, name="here")
    await publish(resources, digest(project), node_labels={"node": "elsewhere"})
    await Prefetch(resources, [runtime], lambda path: PLENTY).look(life)
    assert not (tmp_path / "data/bundles").exists()
    await publish(resources, digest(project), node_labels={"node": "here"})
    await Prefetch(resources, [runtime], lambda path: PLENTY).look(life)
    assert await present(resources, life) == [digest(project)]


async def test_a_gpu_that_is_not_here_keeps_its_models_away(
    resources: Resources, project: Path, runtime: ProcessRuntime, clean_database: None
) -> None:
    async with resources.database.transaction() as tx:
        runnable = await factories.add_runnable(tx, gpu_model="NVIDIA H100", gpu_count=1)
        row = update(Version).where(Version.id == runnable.version_id).values(artifact=digest(project))
        await tx.execute(row)
    gpu = {"uuid": "GPU-1", "memory_bytes": 1, "healthy": True, "reason": None}
    for name, there in (("Tesla T4", []), ("NVIDIA H100", [digest(project)])):
        life = await life_of(resources, gpus=[{**gpu, "name": name}])
        await Prefetch(resources, [runtime], lambda path: PLENTY).look(life)
        assert await present(resources, life) == there


async def test_a_disk_that_is_nearly_full_is_left_alone(
    resources: Resources, tmp_path: Path, project: Path, runtime: ProcessRuntime, clean_database: None
) -> None:
    life = await life_of(resources)
    await publish(resources, digest(project))
    await Prefetch(resources, [runtime], lambda path: 1024**3).look(life)
    assert not (tmp_path / "data/bundles").exists()
    assert await present(resources, life) == []


async def test_one_that_cannot_be_had_keeps_no_other_away(
    resources: Resources, project: Path, runtime: ProcessRuntime, clean_database: None
) -> None:
    life = await life_of(resources)
    await publish(resources, digest(project))
    await publish(resources, "not a digest")
    await Prefetch(resources, [runtime], lambda path: PLENTY).look(life)
    assert await present(resources, life) == [digest(project)]
