"""Fixtures that run the whole of Millrace. A pytest plugin.

`platform` is for tests that leave it as they found it; `own_platform` is for those that break it.
"""

from collections.abc import AsyncIterator, Generator

import pytest

from tests.support.platform import PROJECTS, Platform


@pytest.fixture(scope="session")
async def platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """One for the whole run, with the model `millrace/no-op` ready. Not to be killed."""
    async with Platform(tmp_path_factory.mktemp("platform")) as platform:
        await platform.wait_ready(await platform.publish(PROJECTS / "no-op"))
        yield platform


@pytest.fixture(scope="module")
async def own_platform(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """One for the tests of a module, without models, to be broken and healed."""
    async with Platform(tmp_path_factory.mktemp("own-platform")) as platform:
        yield platform


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the processes said."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Platform):
                report.sections.append(("processes", value.logs()))
    return report
