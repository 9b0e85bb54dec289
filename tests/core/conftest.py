"""A Model anybody may run and a node that runs it, for the tests of the verbs."""

from dataclasses import dataclass

import pytest
from sqlalchemy import Row

from core.catalog import Runnable
from core.resources import Resources
from tests.support.factories import add_account, add_instance, add_node, add_runnable


@dataclass(frozen=True)
class Scene:
    """An account, a Model that is ready, and an Instance of it that is ready on a node of its own."""

    resources: Resources
    account: Row
    runnable: Runnable
    node: Row
    instance_id: str

    @property
    def holder(self) -> tuple[str, str]:
        """What `predictions.start` asks for."""
        return self.instance_id, self.node.boot_id


@pytest.fixture
async def scene(resources: Resources) -> Scene:
    async with resources.database.transaction() as tx:
        account = await add_account(tx)
        runnable = await add_runnable(tx)
        node = await add_node(tx)
        return Scene(resources, account, runnable, node, await add_instance(tx, node, runnable))
