"""What is canceled stops for good: it computes no more, costs no more, and the next one has its slot."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from core.ids import new_id
from core.tables import UsageRecord
from tests.faults.load import rows_of, until
from tests.support.invariants import check_invariants
from tests.support.platform import PROJECTS, Platform

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("prepared", ["process"], indirect=True)]

NAME = "ticker"
TICKER = '''"""Leaves a mark twenty times a second for as long as it computes."""

import time

from cog import BasePredictor, Input


class Predictor(BasePredictor):
    def predict(self, marks: str = Input(default=""), heeds: bool = Input(default=True)) -> str:
        while marks:
            try:
                with open(marks, "a") as file:
                    file.write("x")
                time.sleep(0.05)
            except BaseException:
                if heeds:
                    raise
        return "nothing to mark"
'''
#: So often it would have left a mark in between.
LISTEN_SECONDS = 1.0


@pytest.fixture
async def ticker(broken: Platform) -> str:
    if not (broken.settings.data / "projects" / NAME).exists():
        await broken.wait_ready(await broken.publish(PROJECTS / "sleeper", NAME, files={"predict.py": TICKER}))
    return f"millrace/{NAME}"


@pytest.mark.parametrize("heeds", [True, False], ids=["heeds it", "ignores it"])
async def test_what_is_canceled_computes_no_more_costs_no_more_and_frees_its_slot(
    broken: Platform, ticker: str, heeds: bool
) -> None:
    marks = broken.settings.data / f"marks-{new_id()}"
    created = await broken.client.create(ticker, {"marks": str(marks), "heeds": heeds})
    await until(partial(_is_marked, marks))
    await broken.client.cancel(created["id"])
    ended = await broken.client.finished(created["id"])
    assert (ended["status"], ended["error"]) == ("canceled", None)
    before = marks.stat().st_size
    charged = await _charged(broken, created["id"])
    following = await broken.client.create(ticker, {})
    assert (await broken.client.finished(following["id"]))["output"] == "nothing to mark"
    await asyncio.sleep(LISTEN_SECONDS)
    assert marks.stat().st_size == before, "it goes on computing"
    assert await _charged(broken, created["id"]) == charged
    [row] = await rows_of(broken, [created["id"]])
    assert charged <= (row.completed_at - row.started_at).total_seconds() * 1e6
    await check_invariants(broken, [created["id"], following["id"]])


async def test_what_is_canceled_while_it_waits_never_runs_and_is_free(broken: Platform, ticker: str) -> None:
    marks = broken.settings.data / f"marks-{new_id()}"
    running = await broken.client.create(ticker, {"marks": str(broken.settings.data / f"marks-{new_id()}")})
    await broken.client.until(running["id"], "processing")
    waiting = await broken.client.create(ticker, {"marks": str(marks)})
    assert (await broken.client.cancel(waiting["id"]))["status"] in ("canceled", "processing")
    for prediction in (running, waiting):
        await broken.client.cancel(prediction["id"])
        assert (await broken.client.finished(prediction["id"]))["status"] == "canceled"
    [row] = await rows_of(broken, [waiting["id"]])
    assert row.started_at is not None or not marks.exists()
    await check_invariants(broken, [running["id"], waiting["id"]])


async def _is_marked(marks: Path) -> bool:
    await asyncio.sleep(0)
    return marks.exists() and marks.stat().st_size > 0


async def _charged(platform: Platform, id: str) -> int:
    """Microseconds, by the one record there is."""
    async with platform.resources.database.autocommit() as tx:
        return (await tx.one(select(UsageRecord.micros).where(UsageRecord.cause_id == id))).micros
