"""Where runs are short, the next one is started while the one before still runs. It loses nothing by that: not where
the one before takes long, nor when it is canceled, nor with its node."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import Row, func, select

from core.ids import new_id
from core.tables import Instance, UsageRecord
from tests.faults.load import all_ended, rows_of, until
from tests.support.invariants import check_invariants
from tests.support.platform import Platform
from worker.cog.client import TURN_SECONDS
from worker.pace import RUNS

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("prepared", ["process"], indirect=True)]

LONG_SECONDS = 5.0
#: On a busy machine runs may not be short enough at first.
_TRIES = 20
_LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class OneSlot:
    """A Deployment that may have one Instance, of one slot."""

    platform: Platform
    path: str

    async def create(self, seconds: float) -> str:
        answer = await self.platform.client.request("POST", f"{self.path}/predictions", {"input": {"seconds": seconds}})
        assert answer.status == 201, answer
        return answer.body["id"]

    async def one_behind_another(self) -> tuple[str, str, str]:
        """One that takes long, one that has been started behind it, and one that waits behind that."""
        for _ in range(_TRIES):
            for _ in range(RUNS):
                await self.end([await self.create(0.0)])
            # While the first runs, the others come.
            _, long, next, last = [await self.create(seconds) for seconds in (0.1, LONG_SECONDS, 0.0, 0.0)]
            await until(lambda id=long: self.has_started(id))
            for _ in range(round(TURN_SECONDS / _LOOK_SECONDS)):
                if (await self.row(next)).status == "processing":
                    return long, next, last
                await asyncio.sleep(_LOOK_SECONDS)
            await self.platform.client.cancel(long)
            await self.end([long, next, last])
        raise AssertionError("never was one started behind another")

    async def end(self, ids: list[str]) -> dict[str, Row]:
        """Their rows once all have ended."""
        return {row.id: row for row in await all_ended(self.platform, ids)}

    async def row(self, id: str) -> Row:
        [row] = await rows_of(self.platform, [id])
        return row

    async def has_started(self, id: str) -> bool:
        return (await self.row(id)).status != "starting"

    async def timeline(self, id: str) -> str:
        answer = await self.platform.client.request("GET", f"/predictions/{id}/events")
        return " ".join(event["reason"] or "" for event in answer.body["results"])


@pytest.fixture
async def one_slot(broken: Platform) -> AsyncIterator[OneSlot]:
    model = (await broken.client.request("GET", "/models/millrace/sleeper")).body
    wanted = {"name": f"d-{new_id()}", "model": "millrace/sleeper", "version": model["latest_version"]["id"]}
    wanted |= {"hardware": "cpu", "min_instances": 0, "max_instances": 1}
    made = await broken.client.request("POST", "/deployments", wanted)
    assert made.status == 200, made
    path = f"/deployments/{made.body['owner']}/{made.body['name']}"
    yield OneSlot(broken, path)
    await broken.heal()
    disabled = await broken.client.request("PATCH", path, {"min_instances": 0, "max_instances": 0})
    assert disabled.status == 200, disabled


async def test_it_waits_again_as_the_first_where_the_one_before_takes_long(one_slot: OneSlot) -> None:
    long, next, last = await one_slot.one_behind_another()
    rows = await one_slot.end([long, next, last])
    assert {row.status for row in rows.values()} == {"succeeded"}
    assert (rows[long].attempt, rows[next].attempt, rows[last].attempt) == (1, 2, 1)
    assert rows[long].started_at + timedelta(seconds=LONG_SECONDS) < rows[next].started_at < rows[last].started_at
    assert "the one before it took longer than usual" in await one_slot.timeline(next)
    await check_invariants(one_slot.platform, [long, next, last])


async def test_its_cancel_leaves_the_one_before_alone_and_costs_nothing(one_slot: OneSlot) -> None:
    long, next, last = await one_slot.one_behind_another()
    await one_slot.platform.client.cancel(next)
    await one_slot.platform.client.until(next, "canceled")
    assert (await one_slot.row(long)).status == "processing"
    rows = await one_slot.end([long, next, last])
    assert {id: row.status for id, row in rows.items()} == {long: "succeeded", next: "canceled", last: "succeeded"}
    async with one_slot.platform.resources.database.autocommit() as tx:
        assert not await tx.scalar(select(func.sum(UsageRecord.micros)).where(UsageRecord.cause_id == next))
    await check_invariants(one_slot.platform, [long, next, last])


async def test_it_runs_again_where_its_node_dies(one_slot: OneSlot) -> None:
    ids = await one_slot.one_behind_another()
    await one_slot.platform.kill("node")
    await one_slot.platform.restart("node")
    assert {row.status for row in (await one_slot.end([*ids])).values()} == {"succeeded"}
    await check_invariants(one_slot.platform, ids)


async def test_it_runs_again_where_its_container_dies(one_slot: OneSlot) -> None:
    long, next, last = await one_slot.one_behind_another()
    target = (await one_slot.row(long)).target
    async with one_slot.platform.resources.database.autocommit() as tx:
        instances = await tx.all(select(Instance.id).where(Instance.target == target))
    for instance in instances:
        await one_slot.platform.kill_container(instance.id)
    rows = await one_slot.end([long, next, last])
    assert {id: row.status for id, row in rows.items()} == {long: "failed", next: "succeeded", last: "succeeded"}
    await check_invariants(one_slot.platform, [long, next, last])
