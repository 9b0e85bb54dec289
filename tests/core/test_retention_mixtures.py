"""Any mixture of predictions: what must remain remains as it was, what must go goes, whoever purges and how often."""

import asyncio
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st
from sqlalchemy import Row

from core import retention
from core.ids import new_id
from core.lifecycle import PredictionStatus
from core.resources import Resources, open_resources
from core.retention import Walk
from core.settings import Settings
from core.tables import UsageRecord
from tests.support.factories import add_account, add_runnable
from tests.support.past import WEBHOOK, Past, Traces

#: Sources of its own, or what other tests left in the same tables would be taken as well.
RETENTION = {"short": 3600.0, "long": 36_000.0}
SOURCES = st.sampled_from([*RETENTION, "for ever"])
AGES = st.sampled_from([0.0, 3000.0, 4000.0, 40_000.0])
GONE = Traces([], [], None, False)


@dataclass(frozen=True)
class Hit:
    """A prediction that was given another's result."""

    source: str
    age: float


@dataclass(frozen=True)
class Made:
    source: str
    age: float
    status: PredictionStatus
    webhook: str
    is_example: bool
    file_count: int
    hits: tuple[Hit, ...]


HITS = st.builds(Hit, SOURCES, AGES)
MADE = st.builds(
    Made,
    source=SOURCES,
    age=AGES,
    status=st.sampled_from(PredictionStatus),
    webhook=st.sampled_from(["none", "none", "owed", "delivered"]),
    is_example=st.sampled_from([False, False, True]),
    file_count=st.integers(0, 2),
    hits=st.lists(HITS, max_size=2).map(tuple),
)
ENDS_BY_RUNNING = (PredictionStatus.SUCCEEDED, PredictionStatus.FAILED, PredictionStatus.CANCELED)


def is_old(made: Made | Hit) -> bool:
    return made.age > RETENTION.get(made.source, float("inf"))


def must_go(made: Made) -> bool:
    ended = made.status in ENDS_BY_RUNNING
    given_to = made.status is PredictionStatus.SUCCEEDED and not all(map(is_old, made.hits))
    return ended and is_old(made) and made.webhook != "owed" and not made.is_example and not given_to


async def make(past: Past, made: Made) -> tuple[Row, list[Row]]:
    fields: dict[str, Any] = {"source": made.source, "webhook_url": None if made.webhook == "none" else WEBHOOK}
    if made.status is PredictionStatus.PROCESSING:
        return await past.running(**fields), []
    if made.status not in ENDS_BY_RUNNING:
        return await past.waiting(**fields), []
    row = await past.ended(made.status, made.file_count, cache_key=new_id().encode(), **fields)
    hits = []
    if made.status is PredictionStatus.SUCCEEDED:
        hits = [await past.age(await past.hit(row, hit.source), hit.age) for hit in made.hits]
    if made.webhook == "delivered":
        await past.deliver(row)
    if made.is_example:
        await past.make_example(row)
    return await past.age(row, made.age), hits


async def purge(resources: Resources) -> None:
    for source, seconds in RETENTION.items():
        walk, left = Walk(), True
        while left:
            async with resources.database.transaction() as tx:
                left = bool(await retention.remove_expired(tx, source, seconds, 2, walk) or walk.last)


async def check(resources: Resources, mixture: list[Made]) -> None:
    async with resources.database.transaction() as tx:
        past = Past(resources, await add_account(tx), await add_runnable(tx))
    rows = [await make(past, made) for made in mixture]
    before = [(row, await past.traces(row.id)) for row, _ in rows]
    usage = await past.rows(UsageRecord, UsageRecord.account_id == past.account.id)
    await asyncio.gather(*(purge(resources) for _ in range(3)))
    # Those that wait for one another may have been in several hands.
    await purge(resources)
    for made, (row, traces), (_, hits) in zip(mixture, before, rows, strict=True):
        for hit, given_to in zip(made.hits, hits, strict=False):
            now = await past.row(given_to.id)
            assert now == given_to if not is_old(hit) else now.data_removed, hit
        now = await past.row(row.id)
        if must_go(made):
            assert (now.data_removed, now.input, now.output, now.logs) == (True, {}, None, ""), made
            assert await past.traces(row.id) == GONE
        else:
            assert now == row, made
            assert await past.traces(row.id) == traces
    assert await past.rows(UsageRecord, UsageRecord.account_id == past.account.id) == usage


def test_what_must_remain_remains_and_what_must_go_goes(settings: Settings) -> None:
    # A loop and connections of its own: Hypothesis is synchronous, and runs between the turns of the tests' own loop.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = open_resources(settings)
        resources = runner.run(opened.__aenter__())

        @bounds(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(MADE, min_size=1, max_size=6))
        def of_any_mixture(mixture: list[Made]) -> None:
            runner.run(check(resources, mixture))

        try:
            of_any_mixture()
        finally:
            runner.run(opened.__aexit__(None, None, None))
