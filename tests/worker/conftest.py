"""The node's endpoint and real Cog servers, for the tests of the client."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.support.cog_servers import CogServers
from tests.support.uploads import Uploads
from worker.endpoint import Endpoint


@pytest.fixture(scope="session")
def uploads() -> Uploads:
    return Uploads()


@pytest.fixture(scope="session")
async def cog_endpoint(uploads: Uploads) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(save=uploads.save, open_input=uploads.open_input, host="127.0.0.1", callback_host="127.0.0.1")
    await endpoint.start()
    yield endpoint
    await endpoint.close()


@pytest.fixture(scope="session")
async def cog_servers(cog_endpoint: Endpoint) -> AsyncIterator[CogServers]:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield CogServers(http, cog_endpoint, stack)
