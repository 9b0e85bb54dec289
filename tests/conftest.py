"""Fixtures for everybody: settings of a machine of its own, and resources on real servers.

A test that needs isolation makes its own account; one that looks at all rows asks for `clean_database`.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.resources import Resources, open_resources
from core.settings import Settings
from tests.support.servers import Servers, empty, running_servers

pytest_plugins = [
    "tests.support.requirements",
    "tests.support.docker_fixtures",
    "tests.support.network_fixtures",
    "tests.support.platform_fixtures",
]


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running_servers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


@pytest.fixture(scope="session")
def settings(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    data: Path = tmp_path_factory.mktemp("data")
    return Settings(
        data=data,
        secret="a secret for tests",
        database_url=servers.database_url,
        redis_url=servers.redis_url,
        allow_private_webhooks=True,
        node_address="127.0.0.1",
    )


@pytest.fixture(scope="session")
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    async with open_resources(settings) as resources:
        yield resources


@pytest.fixture
async def clean_database(resources: Resources) -> None:
    await empty(resources)
