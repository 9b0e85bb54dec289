"""The embedded servers, on their own."""

from sqlalchemy import text

from core.resources import Resources


async def test_the_database_is_migrated(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        assert await tx.scalar(text("SELECT count(*) FROM accounts")) is not None


async def test_a_clean_database_holds_no_rows_and_no_keys(resources: Resources, clean_database: None) -> None:
    async with resources.database.transaction() as tx:
        assert await tx.scalar(text("SELECT count(*) FROM accounts")) == 0
    assert await resources.redis.dbsize() == 0
