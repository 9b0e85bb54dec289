"""Connections that break: clients post again, listeners come back; nothing runs twice, nothing is lost."""

import asyncio

import pytest
from sqlalchemy import func, select

from core.tables import Prediction
from tests.api.scene import Caller, Scene
from tests.contract.clients import Script
from tests.support.dropping_proxy import dropping
from tests.support.platform import Platform

HELLO, CHATTY, MISBEHAVING = "millrace/hello-world", "millrace/chatty", "millrace/misbehaving"
PATIENCE_SECONDS = 30


@pytest.fixture
async def account(models: Platform) -> Caller:
    return await Scene(models.resources).caller()


async def count(models: Platform, account: Caller) -> int:
    counted = select(func.count()).select_from(Prediction).where(Prediction.account_id == account.id)
    async with models.resources.database.autocommit() as tx:
        return await tx.scalar(counted)


async def created(models: Platform, account: Caller) -> None:
    for _ in range(PATIENCE_SECONDS * 50):
        if await count(models, account):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("Nothing was created.")


async def test_javascript_posts_again_when_its_connection_breaks_and_the_model_runs_once(
    javascript: Script, models: Platform, account: Caller
) -> None:
    async with dropping(models.settings.port, 3, lambda: created(models, account)) as proxy:
        client = javascript.speaking_for(account.token).against(f"http://127.0.0.1:{proxy.port}/v1")
        output = await client("run", model=CHATTY, input={"count": 3, "sleep_seconds": 0.5})
    assert output == ["chunk 0", "chunk 1", "chunk 2"]
    assert proxy.connections >= 4
    assert await count(models, account) == 1


async def test_python_2_posts_again_after_its_timeout_and_the_model_runs_once(
    python2: Script, models: Platform, account: Caller
) -> None:
    client = python2.speaking_for(account.token)
    output = await client("run_impatiently", model=CHATTY, input={"count": 4, "sleep_seconds": 0.7}, seconds=1.5)
    assert output == ["chunk 0", "chunk 1", "chunk 2", "chunk 3"]
    assert await count(models, account) == 1
