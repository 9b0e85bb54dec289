"""Idle connections to a Postgres that was restarted are found dead before anybody is given one."""

import sqlalchemy as sa

from core.resources import Resources

SELECT_PID = sa.text("SELECT pg_backend_pid()")


async def test_connections_that_postgres_has_closed_cost_nobody_an_error(resources: Resources) -> None:
    async with resources.database.autocommit() as one, resources.database.autocommit() as other:
        pids = {await one.scalar(SELECT_PID), await other.scalar(SELECT_PID)}
    async with resources.database._living() as direct:
        cursor = await direct.execute("SELECT pg_backend_pid() AS pid")
        pids.add((await cursor.fetchone()).pid)
    ending = sa.create_engine(resources.database.engine.url)
    with ending.connect() as connection:
        for pid in pids:
            connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    ending.dispose()
    for _ in range(3):
        async with resources.database.autocommit() as tx:
            assert await tx.scalar(SELECT_PID) not in pids
        async with resources.database._living() as direct:
            cursor = await direct.execute("SELECT pg_backend_pid() AS pid")
            assert (await cursor.fetchone()).pid not in pids
