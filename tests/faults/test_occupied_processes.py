"""What takes long takes nothing from anybody else: models that block, receivers that never answer, and no more than
two connections to Postgres for each process."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from sqlalchemy import func, select

from core.ids import new_id
from core.tables import Event
from tests.faults.load import all_ended, counts, until
from tests.faults.recovery import recovery
from tests.support.invariants import healthy
from tests.support.platform import PROJECTS, Platform
from tests.support.receiver import running_receiver
from tests.support.scripted_receiver import SILENCE, receiving

pytestmark = pytest.mark.faults

SLOTS = 8
MODEL = '''"""Runs until a file appears: beside others, or so that nothing else in its process can run."""

import asyncio
import time

from cog import BasePredictor, Input, Path


class Predictor(BasePredictor):
    async def predict(self, sign: str = Input(default=""), block_seconds: float = Input(default=0, ge=0)) -> str:
        time.sleep(block_seconds)
        while sign and not Path(sign).exists():
            await asyncio.sleep(0.05)
        return "done"
'''
COG_YAML = f"""build:
  python_version: "3.11"
  sdk_version: "0.23.1"
predict: "predict.py:Predictor"
concurrency:
  max: {SLOTS}
"""


@pytest.fixture(scope="module")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with Platform(tmp_path_factory.mktemp("occupied"), database_pool=2) as platform:
        files = {"predict.py": MODEL, "cog.yaml": COG_YAML}
        await platform.wait_ready(await platform.publish(PROJECTS / "no-op", "slow", files=files))
        yield platform


async def test_neither_what_runs_nor_what_is_posted_holds_a_connection(platform: Platform) -> None:
    sign = platform.settings.data / f"sign-{new_id()}"
    secret = (await platform.client.request("GET", "/webhooks/default/secret")).body["key"]
    async with receiving() as silent, running_receiver(secret) as receiver:
        silent.answer([SILENCE] * SLOTS)
        ids = [await _create(platform, silent.url, sign=str(sign)) for _ in range(SLOTS)]
        await until(partial(_all_run, platform, ids))
        sign.touch()
        assert {row.status for row in await all_ended(platform, ids)} == {"succeeded"}
        await silent.until(SLOTS)
        # Nobody has answered those yet.
        told = await _create(platform, receiver.url)
        await all_ended(platform, [told])
        await until(partial(_has_come, receiver.received, told))


async def test_a_model_that_blocks_for_longer_than_a_lease_silences_no_node(platform: Platform) -> None:
    before = await _losses(platform)
    id = await _create(platform, None, block_seconds=platform.settings.node_lease_seconds + 5)
    [row] = await all_ended(platform, [id])
    with recovery("model that blocked its process"):
        await all_ended(platform, [await _create(platform, None)])
    assert (row.status, row.attempt) == ("succeeded", 1)
    assert await _losses(platform) == before
    await healthy(platform)


async def _create(platform: Platform, webhook: str | None, **input: object) -> str:
    fields = {"webhook": webhook, "webhook_events_filter": ["completed"]} if webhook else {}
    return (await platform.client.create("millrace/slow", input, **fields))["id"]


async def _all_run(platform: Platform, ids: list[str]) -> bool:
    return (await counts(platform, ids)).get("processing") == len(ids)


async def _has_come(received: dict[str, list], id: str) -> bool:
    await asyncio.sleep(0)
    return bool(received.get(id))


async def _losses(platform: Platform) -> int:
    async with platform.resources.database.autocommit() as tx:
        return await tx.scalar(select(func.count()).select_from(Event).where(Event.becomes == "lost"))
