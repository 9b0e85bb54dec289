"""The api on real servers, an account of its own for every test, and clients that speak for it."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from core.resources import Resources
from core.settings import Settings
from tests.api.scene import Caller, Scene
from tests.api.serving import serving
from tests.support.api_process import ApiProcess, running_api

#: Longer than any answer is held here; a hang ends a test, not the run.
TIMEOUT_SECONDS = 30
#: Of the api process: what exceeds them is soon sent.
UPLOAD_BYTES, BODY_BYTES = 32 * 1024 * 1024, 8 * 1024 * 1024


@pytest.fixture(scope="session")
def api(settings: Settings) -> Iterator[Settings]:
    """What it is served with: `api.url` is where it answers."""
    with serving(settings) as served:
        yield served


@pytest.fixture(scope="session")
async def api_process(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiProcess]:
    """The same, as a process of its own: its memory is its own, and so is what it makes of broken HTTP."""
    smaller = settings.model_copy(update={"upload_bytes": UPLOAD_BYTES, "body_bytes": BODY_BYTES})
    async with running_api(smaller, tmp_path_factory.mktemp("api") / "api.log") as process:
        yield process


@pytest.fixture
def scene(resources: Resources) -> Scene:
    return Scene(resources)


@pytest.fixture
async def caller(scene: Scene) -> Caller:
    return await scene.caller()


@pytest.fixture
async def client(api: Settings, caller: Caller) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks for `caller`."""
    async with client_of(api, caller.token) as client:
        yield client


@pytest.fixture
async def stranger(api: Settings, scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks for another account."""
    async with client_of(api, (await scene.caller()).token) as client:
        yield client


@pytest.fixture
async def anonymous(api: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(api, None) as client:
        yield client


def client_of(api: Settings, token: str | None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=api.url, headers=headers, timeout=TIMEOUT_SECONDS, verify=False, trust_env=False)
