"""What is rung is rung after the commit, never without it, and a Redis that is away costs nobody the commit."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisAway
from sqlalchemy import text

from core.database import sqlalchemy_url
from core.resources import Resources


async def test_bells_ring_in_order_after_the_commit(resources: Resources) -> None:
    rung: list[str] = []

    async def bell(redis: Redis, name: str) -> None:
        rung.append(name)

    async with resources.database.transaction() as tx:
        tx.after_commit(bell, "first")
        tx.after_commit(bell, "second")
        assert rung == []
    assert rung == ["first", "second"]


async def test_a_transaction_that_raises_writes_nothing_and_rings_nothing(resources: Resources) -> None:
    rung: list[str] = []

    async def bell(redis: Redis) -> None:
        rung.append("rung")

    async def broken() -> None:
        async with resources.database.transaction() as tx:
            await tx.execute(text("CREATE TABLE half_done (x int)"))
            tx.after_commit(bell)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert rung == []
    async with resources.database.autocommit() as tx:
        assert await tx.scalar(text("SELECT to_regclass('half_done')")) is None


async def test_a_bell_that_is_lost_keeps_neither_the_commit_nor_the_next_bell(resources: Resources) -> None:
    rung: list[str] = []

    async def away(redis: Redis) -> None:
        raise RedisAway

    async def bell(redis: Redis) -> None:
        rung.append("rung")

    async with resources.database.transaction() as tx:
        await tx.execute(text("CREATE TEMP TABLE kept (x int) ON COMMIT DROP"))
        tx.after_commit(away)
        tx.after_commit(bell)
    assert rung == ["rung"]


async def test_nobody_waits_for_a_lock_or_a_statement_for_ever(resources: Resources) -> None:
    async with resources.database.autocommit() as tx:
        assert await tx.scalar(text("SHOW lock_timeout")) == "5s"
        assert await tx.scalar(text("SHOW statement_timeout")) == "30s"
        assert await tx.scalar(text("SHOW timezone")) == "UTC"


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "postgres://u@h/d", "postgresql+psycopg://u@h/d"])
def test_urls_as_operators_write_them_lead_to_our_driver(url: str) -> None:
    assert sqlalchemy_url(url) == "postgresql+psycopg://u@h/d"
