"""A real Chromium, one for a whole test run, driven by Playwright; every test gets a profile of its own.

Debian's is taken, so that nothing is downloaded. Where there is none, tests that need it are skipped; in CI they fail.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Of one step; a page that hangs ends a test, not the run.
STEP_MILLISECONDS = 10_000
WIDE, PHONE = (1280, 860), (390, 844)


@dataclass
class Tab:
    """A page in a profile of its own, and what went wrong in it: refusals of the policy, errors of scripts."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    async def looks_wider_than_the_screen(self) -> bool:
        return await self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")

    async def shot(self, path: str, whole: bool = True) -> None:
        await self.page.screenshot(path=path, full_page=whole, caret="initial")


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    if not shutil.which(CHROMIUM):
        missing = f"There is no {CHROMIUM}; on Debian: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(f"CI has to run this test, and cannot: {missing}", pytrace=False)
        pytest.skip(missing)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_tab(
    browser: Browser, url: str, size: tuple[int, int] = WIDE, theme: str = "light", **options: Any
) -> AsyncIterator[Tab]:
    """`url`: of the server, so that pages are opened by their path."""
    width, height = size
    context = await browser.new_context(
        base_url=url, viewport={"width": width, "height": height}, color_scheme=theme, locale="en-US", **options
    )
    context.set_default_timeout(STEP_MILLISECONDS)
    try:
        tab = Tab(await context.new_page())
        tab.page.on("console", lambda said: tab.complaints.append(said.text) if said.type == "error" else None)
        tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        yield tab
    finally:
        await context.close()
