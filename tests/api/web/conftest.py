"""The pages on the real api, with one page more that shows every building block, and a browser to look at them."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from playwright.async_api import Browser

from core.resources import Resources
from core.settings import Settings
from tests.api.conftest import TIMEOUT_SECONDS
from tests.api.serving import serving
from tests.api.web import gallery
from tests.api.web.people import Person, add_person, cookie_of
from tests.support.browser import Tab, open_tab, running_browser


@pytest.fixture(scope="session")
def pages(settings: Settings) -> Iterator[Settings]:
    """What they are served with: `pages.url` is where."""
    with serving(settings, gallery.extend) as served:
        yield served


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as browser:
        yield browser


@pytest.fixture
async def tab(browser: Browser, pages: Settings) -> AsyncIterator[Tab]:
    async with open_tab(browser, pages.url) as tab:
        yield tab


@pytest.fixture
async def person(resources: Resources) -> Person:
    return await add_person(resources)


@pytest.fixture
async def admin(resources: Resources) -> Person:
    return await add_person(resources, is_admin=True)


def visitor_of(pages: Settings, secret: str | None = None) -> httpx.AsyncClient:
    """A browser, as far as headers go; `secret`: of its session."""
    return httpx.AsyncClient(
        base_url=pages.url,
        headers={"Accept": "text/html", "Origin": pages.url},
        cookies={"millrace-session": secret} if secret else None,
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
    )


@pytest.fixture
async def visitor(pages: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Nobody is logged in there."""
    async with visitor_of(pages) as visitor:
        yield visitor


@pytest.fixture
async def member(pages: Settings, resources: Resources, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    """Logged in as `person`."""
    async with visitor_of(pages, await cookie_of(resources, person)) as member:
        yield member
