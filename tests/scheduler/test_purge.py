"""The purge: in small batches, whatever breaks in between, nothing that must go is left for ever."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from core import events, files, idempotency
from core.database import seconds_from_now
from core.errors import NotFound
from core.lifecycle import InstanceStatus, PredictionStatus
from core.predictions import Outcome, finish
from core.resources import Resources
from core.tables import Event, File, IdempotencyKey, Instance, Prediction, UsageRecord, Version
from scheduler.sweeps import SWEEPS, purge
from scheduler.sweeps.base import Context
from tests.scheduler.conftest import Scene
from tests.support.factories import add_instance, add_runnable
from tests.support.past import WEBHOOK, Past

HOUR = 3600.0


@pytest.fixture
def past(scene: Scene) -> Past:
    return Past(scene.resources, scene.account, scene.runnable)


@pytest.fixture(autouse=True)
def beginning_anew() -> None:
    """As a scheduler that has just started."""
    purge._walks.clear()


@pytest.fixture
def one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that has no time: each kind has one turn, with few rows."""
    monkeypatch.setattr(purge, "PASS_SECONDS", 0.0)
    monkeypatch.setattr(purge, "_ROWS", 2)
    monkeypatch.setattr(purge, "_FILES", 2)


def with_settings(context: Context, **changes: int) -> Context:
    resources = context.resources
    return replace(context, resources=replace(resources, settings=resources.settings.model_copy(update=changes)))


def bytes_of(resources: Resources, row: File) -> Path:
    return Path(resources.settings.file_store_url.removeprefix("file://")) / row.store_key


async def removed(past: Past) -> list[str]:
    return [row.id for row in await past.rows(Prediction, Prediction.data_removed)]


# --- data past its retention ------------------------------------------------------------------------------------------


def test_the_scheduler_runs_it() -> None:
    assert purge.SWEEP in SWEEPS


async def test_each_source_has_its_own_retention_and_zero_is_for_ever(past: Past, context: Context) -> None:
    api, web = [await past.age(await past.ended(source=source), 2 * HOUR) for source in ("api", "web")]
    await purge.run(with_settings(context, retention_api_seconds=0))
    assert await removed(past) == []
    await purge.run(context)
    assert await removed(past) == [api.id]
    await purge.run(with_settings(context, retention_web_seconds=3 * 3600))
    assert await removed(past) == [api.id]
    await purge.run(with_settings(context, retention_web_seconds=3600))
    assert sorted(await removed(past)) == sorted([api.id, web.id])


async def test_what_a_pass_leaves_the_next_one_takes(past: Past, context: Context, one_turn: None) -> None:
    for _ in range(5):
        await past.age(await past.ended(), 2 * HOUR)
    counts = []
    for _ in range(4):
        await purge.run(context)
        counts.append(len(await removed(past)))
    assert counts == [2, 4, 5, 5]


async def test_what_owes_a_webhook_keeps_no_other_from_going(past: Past, context: Context, one_turn: None) -> None:
    kept = [await past.age(await past.ended(webhook_url=WEBHOOK), 3 * HOUR) for _ in range(5)]
    free = await past.age(await past.ended(), 2 * HOUR)
    for _ in range(3):
        await purge.run(context)
    assert await removed(past) == [free.id]
    await past.deliver(kept[0])
    for _ in range(3):
        await purge.run(context)
    assert sorted(await removed(past)) == sorted([kept[0].id, free.id])


async def test_a_pass_with_time_takes_everything(
    past: Past, context: Context, one_turn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "PASS_SECONDS", 60.0)
    for _ in range(5):
        await past.age(await past.ended(file_count=1), 2 * HOUR)
    await purge.run(context)
    await past.expire_files()
    await purge.run(context)
    assert len(await removed(past)) == 5
    assert await past.rows(File) == []


async def test_several_at_once_do_what_one_does(past: Past, context: Context, one_turn: None) -> None:
    rows = [await past.age(await past.ended(file_count=1), 2 * HOUR) for _ in range(6)]
    young = await past.ended(file_count=1)
    for _ in range(4):
        await asyncio.gather(*(purge.run(context) for _ in range(3)))
        await past.expire_files()
    assert sorted(await removed(past)) == sorted(row.id for row in rows)
    assert [row.prediction_id for row in await past.rows(File)] == [young.id]


# --- bytes ------------------------------------------------------------------------------------------------------------


async def test_an_output_is_hidden_at_once_and_its_bytes_go_when_nobody_reads_them(
    past: Past, context: Context
) -> None:
    row = await past.age(await past.ended(file_count=1), 2 * HOUR)
    [file] = await past.rows(File)
    await purge.run(context)
    async with past.resources.database.autocommit() as tx:
        with pytest.raises(NotFound):
            await files.get_output(tx, file.id)
        shown = await files.with_data(past.resources.files, tx, past.resources.settings, row.output)
    assert shown == ["data:text/plain;base64,ZmlsZSAw"], "who read the row before is still given all of it"
    await past.expire_files()
    await purge.run(context)
    assert await past.rows(File) == []
    assert not bytes_of(past.resources, file).exists()


async def test_an_upload_goes_when_it_has_expired(past: Past, context: Context) -> None:
    row = await past.waiting()
    for lifetime in (1, 3600):
        await past.file(row, b"content", files.UPLOAD, lifetime)
    old, young = sorted(await past.rows(File), key=lambda row: row.expires_at)
    await past.write(File, old.id, expires_at=seconds_from_now(-files.GRACE_SECONDS / 2))
    await purge.run(context)
    assert bytes_of(past.resources, old).exists(), "a download may have begun just before"
    await past.expire_files()
    await purge.run(context)
    assert [row.id for row in await past.rows(File)] == [young.id]
    assert not bytes_of(past.resources, old).exists()
    assert bytes_of(past.resources, young).exists()


async def test_a_deleted_upload_leaves_no_bytes_even_if_whoever_deleted_it_died(past: Past, context: Context) -> None:
    id = await past.file(await past.waiting(), b"content", files.UPLOAD, 3600)
    [file] = await past.rows(File)
    async with past.resources.database.transaction() as tx:
        await files.remove_upload(tx, past.account.id, id)
    await past.expire_files()
    await purge.run(context)
    assert await past.rows(File) == []
    assert not bytes_of(past.resources, file).exists()


async def test_bytes_that_the_store_refuses_to_delete_are_deleted_later(past: Past, context: Context) -> None:
    """A folder stands where the bytes should be: the store fails, as it would fail if it were away."""
    await past.age(await past.ended(file_count=2), 2 * HOUR)
    await purge.run(context)
    stuck, other = await past.rows(File)
    path, aside = bytes_of(past.resources, stuck), bytes_of(past.resources, stuck).with_suffix(".aside")
    path.rename(aside)
    path.mkdir()
    await past.expire_files()
    await purge.run(context)
    [left] = await past.rows(File)
    assert left.id == stuck.id, "its row is the mark by which it is found again"
    assert not bytes_of(past.resources, other).exists()
    path.rmdir()
    aside.rename(path)
    await past.expire_files()
    await purge.run(context)
    assert await past.rows(File) == []
    assert not path.exists()


async def test_what_the_store_refuses_does_not_hold_up_the_rest(past: Past, context: Context, one_turn: None) -> None:
    await past.age(await past.ended(file_count=4), 2 * HOUR)
    await purge.run(context)
    rows = await past.rows(File)
    for row in rows[:2]:
        bytes_of(past.resources, row).unlink()
        bytes_of(past.resources, row).mkdir()
    await past.expire_files()
    for row in rows[:2]:
        await past.write(File, row.id, expires_at=seconds_from_now(-2 * files.GRACE_SECONDS))
    for _ in range(2):
        await purge.run(context)
    assert {row.id for row in await past.rows(File)} == {row.id for row in rows[:2]}


async def test_dying_between_the_bytes_and_their_row_leaves_nothing(past: Past, context: Context) -> None:
    await past.age(await past.ended(file_count=1), 2 * HOUR)
    await purge.run(context)
    [file] = await past.rows(File)
    await past.resources.files.delete(file.store_key)
    await past.expire_files()
    await purge.run(context)
    assert await past.rows(File) == []


# --- keys -------------------------------------------------------------------------------------------------------------


async def test_an_expired_idempotency_key_goes_and_one_claimed_anew_stays(past: Past, context: Context) -> None:
    async with past.resources.database.transaction() as tx:
        for key in ("old", "anew", "young"):
            await idempotency.claim(tx, past.account.id, key, b"hash", key, 3600)
        await tx.execute(
            update(IdempotencyKey).where(IdempotencyKey.key != "young").values(expires_at=seconds_from_now(-1))
        )
    async with past.resources.database.transaction() as tx:
        await idempotency.claim(tx, past.account.id, "anew", b"other", "other", 3600)
        purging = asyncio.create_task(purge.run(context))
        await asyncio.sleep(0.2)
    await purging
    assert sorted(row.key for row in await past.rows(IdempotencyKey)) == ["anew", "young"]


# --- deleted Versions -------------------------------------------------------------------------------------------------


async def test_pass_after_pass_a_deleted_version_goes_with_all_it_left(
    past: Past, context: Context, one_turn: None
) -> None:
    """Everything it had, in whatever state; its node ends what is its to end."""
    for _ in range(5):
        await past.ended(file_count=1, source="web")
    waiting, running = [await past.waiting() for _ in range(3)], await past.running()
    version_id = past.runnable.version_id
    await past.write(Version, version_id, deleted_at=func.now())
    await purge.run(context)
    assert {(await past.row(row.id)).status for row in waiting} == {PredictionStatus.CANCELED}
    async with past.resources.database.transaction() as tx:
        await finish(tx, running.id, running.attempt, Outcome(PredictionStatus.CANCELED, micros=5))
        left = select(Instance.id).where(Instance.version_id == version_id, Instance.is_wanted)
        assert await tx.all(left) == [], "its instances drain"
        await tx.execute(update(Instance).values(status=InstanceStatus.STOPPED))
    await later(past)
    for _ in range(5):
        await purge.run(context)
        await past.expire_files()
    for table in (Prediction, Instance, Version, File):
        assert await past.rows(table) == [], table
    assert len(await past.rows(UsageRecord)) == 6


async def later(past: Past) -> None:
    """When nobody waits for it, listens to it or remembers it any more."""
    async with past.resources.database.transaction() as tx:
        await tx.execute(update(Prediction).values(completed_at=seconds_from_now(-HOUR)))
        await tx.execute(update(Version).values(deleted_at=seconds_from_now(-HOUR)))


async def test_a_deleted_version_that_cannot_go_yet_keeps_no_other_from_going(
    past: Past, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "_VERSIONS", 1)
    await past.running()
    async with past.resources.database.transaction() as tx:
        other = await add_runnable(tx)
        await tx.execute(update(Version).values(deleted_at=seconds_from_now(-HOUR)))
    for _ in range(64):
        await purge.run(context)
        if other.version_id not in {row.id for row in await past.rows(Version)}:
            break
    assert [row.id for row in await past.rows(Version)] == [past.runnable.version_id]


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_are_told_for_a_month_and_then_forgotten(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        told = [events.event(events.node("a"), "somebody", reason=str(number)) for number in range(5)]
        await events.record_all(tx, *told)
        old = select(Event.id).where(Event.reason.in_(("0", "1", "2")))
        age = seconds_from_now(-purge.EVENTS_SECONDS - HOUR)
        await tx.execute(update(Event).where(Event.id.in_(old)).values(at=age))
    await purge.run(context)
    async with scene.resources.database.autocommit() as tx:
        assert [event.reason for event in await events.of(tx, events.node("a"))] == ["3", "4"]


async def test_what_boots_printed_is_kept_for_a_month_after_their_instance_has_ended(
    scene: Scene, context: Context
) -> None:
    async with scene.resources.database.transaction() as tx:
        ids = [await add_instance(tx, scene.node, scene.runnable) for _ in range(3)]
    month = purge.EVENTS_SECONDS
    for id, ended in zip(ids, (-month - HOUR, -month + HOUR, None), strict=True):
        await scene.write(Instance, id, setup_logs="up", ended_at=ended and seconds_from_now(ended))
    await purge.run(context)
    kept = {row.id: row.setup_logs for row in await scene.instances()}
    assert [kept[id] for id in ids] == ["", "up", "up"]
