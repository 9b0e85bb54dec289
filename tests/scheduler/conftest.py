"""An empty database with an account, a Model that is ready and a node, and what a sweep is given."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import Row, select, update

from core.catalog import Runnable
from core.jobs import JobQueue
from core.resources import Resources
from core.tables import Instance, Node, Prediction
from scheduler.sweeps.base import Context
from tests.support.factories import add_account, add_node, add_prediction, add_runnable

LONG_SECONDS = 1e6


@pytest.fixture
def context(resources: Resources, clean_database: None) -> Iterator[Context]:
    jobs = JobQueue(resources.settings)
    yield Context(resources, jobs, healthy_seconds=LONG_SECONDS)
    jobs.close()


@dataclass(frozen=True)
class Scene:
    """The rows a sweep looks at, and the few things its tests do to them."""

    resources: Resources
    account: Row
    runnable: Runnable
    node: Row

    async def predict(self, runnable: Runnable | None = None, **fields) -> Row:
        return await add_prediction(self.resources.database, self.account.id, runnable or self.runnable, **fields)

    async def prediction(self, id: str) -> Row:
        async with self.resources.database.autocommit() as tx:
            return await tx.one(select(Prediction).where(Prediction.id == id))

    async def instances(self) -> list[Row]:
        async with self.resources.database.autocommit() as tx:
            return list(await tx.all(select(Instance).order_by(Instance.created_at, Instance.id)))

    async def write(self, table: type, id: str, **values) -> None:
        """What only time, or an operator, would do to a row."""
        async with self.resources.database.transaction() as tx:
            await tx.execute(update(table).where(table.__table__.c.id == id).values(**values))

    async def cordon(self) -> None:
        await self.write(Node, self.node.id, is_cordoned=True)


@pytest.fixture
async def scene(resources: Resources, clean_database: None) -> Scene:
    async with resources.database.transaction() as tx:
        return Scene(resources, await add_account(tx), await add_runnable(tx), await add_node(tx))
