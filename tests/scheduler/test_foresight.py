"""A model that is called in a rhythm boots before its next call; on a guess nobody pays for, and once."""

from sqlalchemy import select

from core.clock import monotonic
from core.lifecycle import InstanceStatus
from core.tables import Instance, Model, Version
from scheduler.foresight import Foresight
from scheduler.sweeps import scale
from scheduler.sweeps.base import Context
from tests.scheduler.conftest import Scene
from tests.support.factories import add_instance

EVERY_MINUTE = tuple(1000.0 - 60.0 * beat for beat in range(6))


def learned(called_at: tuple[float, ...] = EVERY_MINUTE, boot_seconds: float = 8.0) -> Foresight:
    foresight = Foresight()
    foresight.learn("t", "v", "sku", boot_seconds, called_at)
    return foresight


def names(foresight: Foresight, moment: float) -> list[str]:
    return [beat.name for beat in foresight.due(moment)]


def test_it_is_due_a_boot_before_its_next_call_and_not_sooner() -> None:
    assert names(learned(), 1049.0) == []
    assert names(learned(), 1051.0) == ["t"]


def test_it_is_due_while_the_call_may_be_late_and_forgotten_when_it_has_not_come() -> None:
    foresight = learned()
    assert names(foresight, 1071.0) == ["t"]
    assert names(foresight, 1073.0) == []
    assert names(foresight, 1051.0) == []


def test_who_is_called_in_no_rhythm_is_never_due() -> None:
    foresight = learned((1000.0, 990.0, 700.0, 650.0, 100.0, 20.0))
    assert not any(names(foresight, 1000.0 + second) for second in range(0, 1000, 5))


def test_a_beat_is_worth_one_try_and_the_next_call_another() -> None:
    foresight = learned()
    foresight.spend(["t", "another"])
    assert names(foresight, 1055.0) == []
    foresight.learn("t", "v", "sku", 9.0, tuple(moment + 0.1 for moment in EVERY_MINUTE))
    assert names(foresight, 1055.0) == []
    foresight.learn("t", "v", "sku", 9.0, (1060.0, *EVERY_MINUTE))
    assert names(foresight, 1115.0) == ["t"]


def test_it_begins_sooner_once_its_boot_was_seen_to_take_longer() -> None:
    foresight = learned(boot_seconds=1.0)
    foresight.learn("t", "v", "sku", 40.0, EVERY_MINUTE)
    assert names(foresight, 1015.0) == ["t"]


async def call_each_minute(scene: Scene) -> None:
    """The latest call was nearly a minute ago."""
    redis = scene.resources.redis
    seconds, micros = await redis.time()
    latest = seconds * 1000 + micros // 1000 - 59_500
    moments = [latest - 60_000 * beat for beat in range(6)]
    await redis.rpush(f"queue:{{{scene.runnable.target}}}:arrivals", *moments)


async def let_it_serve_and_go(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        id = await add_instance(tx, scene.node, scene.runnable)
    await scale.run(context)
    await scene.write(Instance, id, status=InstanceStatus.STOPPED, is_wanted=False)


async def statuses(scene: Scene) -> list[str]:
    return [row.status for row in await scene.instances()]


async def test_a_model_that_is_called_each_minute_boots_before_the_call(scene: Scene, context: Context) -> None:
    await call_each_minute(scene)
    await let_it_serve_and_go(scene, context)
    await scale.run(context)
    assert await statuses(scene) == [InstanceStatus.STOPPED, InstanceStatus.PENDING]
    await scale.run(context)
    assert len(await statuses(scene)) == 2


async def test_one_that_failed_before_the_call_is_not_tried_again_for_it(scene: Scene, context: Context) -> None:
    await call_each_minute(scene)
    await let_it_serve_and_go(scene, context)
    await scale.run(context)
    [_, foretold] = await scene.instances()
    await scene.write(Instance, foretold.id, status=InstanceStatus.FAILED, is_wanted=False)
    await scale.run(context)
    assert len(await statuses(scene)) == 2


async def test_an_owner_who_pays_for_its_time_pays_for_no_guess(scene: Scene, context: Context) -> None:
    async with scene.resources.database.transaction() as tx:
        model_id = await tx.scalar(select(Version.model_id).where(Version.id == scene.runnable.version_id))
    await scene.write(Model, model_id, visibility="private")
    await call_each_minute(scene)
    await let_it_serve_and_go(scene, context)
    await scale.run(context)
    assert await statuses(scene) == [InstanceStatus.STOPPED]


async def test_a_version_that_was_deleted_since_is_not_booted(scene: Scene, context: Context) -> None:
    latest = monotonic() - 59.5
    called_at = tuple(latest - 60.0 * beat for beat in range(6))
    scale._HINTS.foresight.learn("gone", "gone", scene.runnable.hardware_sku, 1.0, called_at)
    assert "gone" in names(scale._HINTS.foresight, monotonic())
    await scale.run(context)
    assert await statuses(scene) == []
