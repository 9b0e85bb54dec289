"""The pages on the real api, with one page more that shows every building block, and a browser to look at them."""

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser

from core.resources import Resources
from core.settings import Settings
from tests.api.serving import serving
from tests.api.web import gallery
from tests.api.web.people import Person, add_person
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
