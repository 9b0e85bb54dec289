"""What every installation has, and that filling it in again changes nothing."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Row, func, select

from cli.errors import Refusal
from cli.setup import PUBLISHER, seed_hardware, setup
from core import catalog
from core.lifecycle import VersionStatus
from core.money import prices
from core.people import accounts, audit_trail, closing, tokens
from core.people.audit_trail import Filter
from core.resources import Resources
from core.settings import Settings
from core.tables import Account, Model, Version

PROJECTS = Path(__file__).parents[2] / "cog_models"


@pytest.fixture
def own(settings: Settings, tmp_path: Path, clean_database: None) -> Settings:
    """An installation with two models and an empty database."""
    for name in ("resize-image", "hello-world"):
        shutil.copytree(PROJECTS / name, tmp_path / name)
    return settings.model_copy(update={"models": tmp_path, "admin_token": tokens.new_token()})


async def versions(resources: Resources) -> list[Row]:
    async with resources.database.autocommit() as tx:
        return list(
            await tx.all(
                select(
                    Model.name, Model.visibility, Model.description, Model.latest_version_id, Version.id, Version.status
                )
                .join(Version, Version.model_id == Model.id)
                .order_by(Version.created_at)
            )
        )


async def test_the_admin_can_use_the_first_token(own: Settings, resources: Resources) -> None:
    await setup(own)
    async with resources.database.autocommit() as tx:
        admin = await tokens.caller(tx, own.admin_token)
    assert admin is not None
    assert (admin.username, admin.is_admin) == (own.admin_username, True)


async def test_filling_it_in_again_leaves_nothing_in_the_audit_log(own: Settings, resources: Resources) -> None:
    await setup(own)
    async with resources.database.autocommit() as tx:
        first = await audit_trail.verify(tx)
        actions = [row.action for row in await audit_trail.page(tx, Filter(), None, 100)]
    assert first.number == len(actions) > 0
    assert {"account.create", "token.create", "model.create", "version.publish"} <= set(actions)
    await setup(own)
    async with resources.database.autocommit() as tx:
        assert await audit_trail.verify(tx) == first


async def test_an_admin_who_is_deleted_is_not_set_up_again(own: Settings, resources: Resources) -> None:
    await setup(own)
    async with resources.database.transaction() as tx:
        await accounts.ensure(tx, "another-admin", "", is_admin=True)
        await closing.delete(tx, (await accounts.by_username(tx, own.admin_username)).id)
    with pytest.raises(Refusal, match="set MILLRACE_ADMIN_USERNAME to another"):
        await setup(own)
    await setup(own.model_copy(update={"admin_username": "another-admin"}))


async def test_hello_world_is_published_first_and_all_are_public(own: Settings, resources: Resources) -> None:
    await setup(own)
    first, second = await versions(resources)
    assert (first.name, second.name) == ("hello-world", "resize-image")
    assert {first.visibility, second.visibility} == {"public"}
    assert first.description.startswith("Greets whoever is named.")
    async with resources.database.autocommit() as tx:
        publisher = await tx.one(select(Account).where(Account.username == PUBLISHER))
        assert publisher.type == "organization"
        assert "cpu" in {row.sku for row in await catalog.list_hardware(tx)}
        assert first.id in await catalog.to_prepare(tx)


async def test_a_machine_with_eight_gpus_is_offered_by_ones_twos_fours_and_eights(
    resources: Resources, clean_database: None
) -> None:
    gpus = ["NVIDIA L40S", *["NVIDIA H100 80GB HBM3"] * 8]
    assert [kind.sku for kind in await seed_hardware(resources, lambda: gpus)] == ["gpu-l40s", "gpu-h100"]
    async with resources.database.autocommit() as tx:
        found = {row.sku: row.gpu_count for row in await catalog.list_hardware(tx)}
    assert found == {"cpu": 0, "gpu-l40s": 1, "gpu-h100": 1, "gpu-h100-2x": 2, "gpu-h100-4x": 4, "gpu-h100-8x": 8}


async def test_a_second_setup_changes_nothing(own: Settings, resources: Resources) -> None:
    await setup(own)
    before = await versions(resources)
    async with resources.database.transaction() as tx:
        await prices.put(tx, kind="hardware", subject="cpu", nanos_per_unit=7, created_by="admin")
    await setup(own)
    assert await versions(resources) == before
    async with resources.database.autocommit() as tx:
        _, nanos = prices.second_of("cpu", None, func.now())
        assert await tx.scalar(select(nanos)) == 7
        assert await tx.scalar(select(func.count()).select_from(Account)) == 2


async def test_a_changed_model_becomes_a_new_latest_version(own: Settings, resources: Resources) -> None:
    await setup(own)
    assert own.models is not None
    (own.models / "hello-world" / "more.txt").write_text("more")
    await setup(own)
    of_hello = [row for row in await versions(resources) if row.name == "hello-world"]
    assert len(of_hello) == 2
    assert {row.latest_version_id for row in of_hello} == {of_hello[-1].id}


async def test_a_version_whose_preparation_failed_is_tried_again(own: Settings, resources: Resources) -> None:
    await setup(own)
    version = (await versions(resources))[0]
    async with resources.database.transaction() as tx:
        await catalog.preparation_failed(tx, version.id, "The network was down.")
    await setup(own)
    assert (await versions(resources))[0].status == VersionStatus.PREPARING


async def test_a_folder_without_projects_is_refused(own: Settings, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="There are no Cog projects"):
        await setup(own.model_copy(update={"models": tmp_path / "nowhere"}))
