"""Months that are over and PDFs that are missing are found by a sweep each, and their jobs asked for once."""

import dataclasses

import pytest
from redis import Redis
from rq import Queue
from sqlalchemy import select

from core.invoices import invoices, invoicing
from core.jobs import QUEUE
from core.tables import Invoice
from scheduler.sweeps import invoice, render
from scheduler.sweeps.base import Context
from tests.scheduler.conftest import Scene
from tests.support.books import FEBRUARY, JANUARY
from tests.support.past_use import use


@pytest.fixture
def selling(context: Context) -> Context:
    """What a sweep is given where somebody sells."""
    settings = context.resources.settings.model_copy(update={"seller_name": "A seller"})
    return dataclasses.replace(context, resources=dataclasses.replace(context.resources, settings=settings))


def asked_for(scene: Scene) -> list[tuple[str, tuple[str, ...]]]:
    """The functions of jobs that wait, which are there, each with what it is given."""
    with Redis.from_url(scene.resources.settings.redis_url) as connection:
        waiting = Queue(QUEUE, connection=connection).jobs
        return [(job.func.__name__, tuple(job.args)) for job in waiting]


async def test_a_job_is_asked_for_once_for_each_account_with_a_month_that_is_over(
    scene: Scene, selling: Context
) -> None:
    async with scene.resources.database.transaction() as tx:
        for moment in (JANUARY, FEBRUARY):
            await use(tx, scene.account, moment)
    for _ in range(2):
        await invoice.run(selling)
    assert asked_for(scene) == [("make_invoices", (scene.account.id,))]


async def test_nothing_is_asked_for_where_nobody_sells_or_nothing_is_over(
    scene: Scene, context: Context, selling: Context
) -> None:
    await invoice.run(selling)
    async with scene.resources.database.transaction() as tx:
        await use(tx, scene.account, JANUARY)
    await invoice.run(context)
    assert asked_for(scene) == []


async def test_a_pdf_that_is_missing_is_asked_for_until_it_is_there(scene: Scene, selling: Context) -> None:
    database = scene.resources.database
    async with database.transaction() as tx:
        await use(tx, scene.account, JANUARY)
        row = await invoicing.issue_next(tx, selling.resources.settings, scene.account.id)
    for _ in range(2):
        await render.run(selling)
    assert asked_for(scene) == [("render_invoice", (row.id,))]
    await scene.resources.redis.flushall()
    async with database.transaction() as tx:
        await invoices.rendered(tx, row.id, "somewhere")
    await render.run(selling)
    assert asked_for(scene) == []
    async with database.autocommit() as tx:
        assert await tx.scalar(select(Invoice.pdf)) == "somewhere"
