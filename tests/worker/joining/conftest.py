"""One gateway for the tests of joining, before the servers that all tests share."""

from collections.abc import AsyncIterator

import pytest

from core.resources import Resources
from tests.support.gateways import GatewayProcess
from tests.support.ports import free_port


@pytest.fixture(scope="session")
async def gateway(resources: Resources) -> AsyncIterator[GatewayProcess]:
    gateway = GatewayProcess(resources, free_port())
    await gateway.start()
    yield gateway
    await gateway.stop()
