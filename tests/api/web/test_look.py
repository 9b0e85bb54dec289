"""The pages in a real browser: they work by keyboard, on a phone, in the dark, and without a script."""

import pytest
from playwright.async_api import Browser, Page, expect

from core.resources import Resources
from core.settings import Settings
from tests.api.web.people import Person, let_in, log_in
from tests.support.browser import PHONE, WIDE, Tab, open_tab

SETTINGS = "/account/settings"
#: Of every text that is seen, how well it stands out from what is behind it; the worst first.
CONTRASTS = """() => {
  const numbers = (text) => {
    const found = text.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number);
    const scale = text.startsWith("color(") ? 1 : 255;
    return [...found.slice(0, 3).map((value) => value / scale), found[3] ?? 1];
  };
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.5) return colour;
    }
    return numbers(getComputedStyle(document.body).backgroundColor);
  };
  const results = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("svg, option")) continue;
    const pair = [numbers(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
    results.push([(pair[0] + 0.05) / (pair[1] + 0.05), walker.currentNode.data.trim()]);
  }
  return results.sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_page_fits_every_screen_is_readable_and_breaks_no_rule(
    browser: Browser, pages: Settings, resources: Resources, admin: Person, theme: str
) -> None:
    for size in (WIDE, PHONE):
        async with open_tab(browser, pages.url, size, theme) as tab:
            await tab.page.goto("/login")
            await is_well_made(tab)
            await let_in(tab.page, pages, resources, admin)
            for path in (SETTINGS, "/gallery?many=1"):
                await tab.page.goto(path)
                await is_well_made(tab)
            assert tab.complaints == []


async def is_well_made(tab: Tab) -> None:
    assert not await tab.looks_wider_than_the_screen()
    worst, text = (await tab.page.evaluate(CONTRASTS))[0]
    assert worst >= 4.5, f"{text!r} is hard to read: {worst:.2f}"
    assert await tab.page.locator("h1").count() == 1
    assert await tab.page.locator("input:not([type=hidden]):not([id]):not(label input)").count() == 0


async def test_what_a_page_may_not_do_is_noticed_here(tab: Tab) -> None:
    """Else the test above would prove nothing."""
    await tab.page.goto("/login")
    await tab.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">')")
    await tab.page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'x = 1'}))")
    refused = " ".join(tab.complaints)
    assert "style-src 'self'" in refused
    assert "script-src 'self'" in refused


async def test_one_logs_in_and_out_with_the_keyboard_alone(tab: Tab, person: Person) -> None:
    page, keys = tab.page, tab.page.keyboard
    await page.goto(f"{SETTINGS}?from=here")
    await keys.type(person.email)
    await keys.press("Tab")
    await keys.type(person.password)
    await keys.press("Enter")
    await page.wait_for_url(f"**{SETTINGS}?from=here")
    await keys.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await keys.press("Enter")
    await expect(page.locator("main")).to_be_focused()

    await page.locator(".menu summary").focus()
    await keys.press("Enter")
    await expect(page.get_by_role("button", name="Log out", exact=True)).to_be_visible()
    await keys.press("Escape")
    await expect(page.locator(".menu summary")).to_be_focused()
    await keys.press("Enter")
    await keys.press("Tab")
    await keys.press("Tab")
    await keys.press("Enter")
    await expect(page.get_by_role("status")).to_have_text("You are logged out.")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert tab.complaints == []


async def test_a_wrong_password_is_said_and_only_it_has_to_be_typed_again(tab: Tab, person: Person) -> None:
    await tab.page.goto("/login")
    await log_in(tab.page, person, "wrong password")
    await expect(tab.page.get_by_role("alert").first).to_have_text("The email or the password is wrong.")
    await expect(tab.page.get_by_label("Email")).to_have_value(person.email)
    await expect(tab.page.get_by_label("Password")).to_be_focused()
    await tab.page.keyboard.type(person.password)
    await tab.page.keyboard.press("Enter")
    await tab.page.wait_for_url("**/account/**")


async def test_light_or_dark_is_as_the_system_has_it_until_one_chooses(browser: Browser, pages: Settings) -> None:
    async with open_tab(browser, pages.url, theme="dark") as tab:
        await tab.page.goto("/login")
        dark = await background(tab.page)
        await tab.page.get_by_role("button", name="Light or dark").click()
        light = await background(tab.page)
        assert light != dark
        html = await (await tab.page.reload()).text()
        assert '<html lang="en" data-theme="light">' in html, "It would flash."
        assert await background(tab.page) == light


async def background(page: Page) -> str:
    return await page.evaluate("getComputedStyle(document.body).backgroundColor")


async def test_filters_are_in_the_url_and_spare_the_reload(
    tab: Tab, pages: Settings, resources: Resources, admin: Person
) -> None:
    page = tab.page
    await let_in(page, pages, resources, admin)
    await page.goto("/gallery")
    await page.evaluate("window.isTheSame = true")
    await page.get_by_role("combobox", name="Model").focus()
    await page.get_by_role("combobox", name="Model").select_option("acme/flux-dev")
    await page.wait_for_url("**/gallery?span=30d&since=*&until=*&model=acme%2Fflux-dev")
    await expect(page.get_by_role("combobox", name="Model")).to_have_value("acme/flux-dev")
    await expect(page.get_by_role("combobox", name="Model")).to_be_focused()
    await expect(page.get_by_role("link", name="30 days")).to_have_attribute("aria-current", "true")
    await page.get_by_label("From").fill("2026-11-20")
    await page.wait_for_url("**since=2026-11-20**")
    await expect(page.locator(".column")).to_have_count(3)
    await expect(page.locator(".presets [aria-current]")).to_have_count(0)
    assert await page.evaluate("window.isTheSame")
    await page.go_back()
    await expect(page.locator(".column")).to_have_count(30)
    await expect(page.get_by_role("combobox", name="Model")).to_have_value("acme/flux-dev")
    assert tab.complaints == []


async def test_without_a_script_everything_works_that_matters(
    browser: Browser, pages: Settings, resources: Resources, admin: Person
) -> None:
    async with open_tab(browser, pages.url, java_script_enabled=False) as tab:
        await let_in(tab.page, pages, resources, admin)
        await tab.page.goto("/gallery")
        await tab.page.get_by_role("combobox", name="Model").select_option("acme/flux-dev")
        await tab.page.get_by_role("button", name="Show").click()
        await tab.page.wait_for_url("**model=acme%2Fflux-dev")
        await expect(tab.page.get_by_role("button", name="Light or dark")).to_be_hidden()


async def test_a_chart_says_what_the_pointer_is_on_and_leads_there(
    tab: Tab, pages: Settings, resources: Resources, admin: Person
) -> None:
    page = tab.page
    await let_in(page, pages, resources, admin)
    await page.goto("/gallery?since=2026-11-16&until=2026-11-20")
    segment = page.get_by_role("link", name="globex/whisper, Thursday, 19 Nov")
    await segment.hover()
    said = await page.locator(".readout:visible").all_text_contents()
    assert len(said) == 1
    assert said[0].startswith("globex/whisper, Thursday, 19 Nov: $")
    await page.get_by_text("As a table").click()
    table = page.get_by_role("region", name="Spend by Model and day")
    amount = said[0].rpartition(": ")[2].partition(" of ")[0]
    await expect(table.get_by_role("row", name="Thursday, 19 Nov")).to_contain_text(amount)
    await segment.focus()
    await page.keyboard.press("Enter")
    await page.wait_for_url("**model=globex/whisper&since=2026-11-19**")


async def test_a_server_that_is_away_is_noticed(tab: Tab, pages: Settings, resources: Resources, admin: Person) -> None:
    page = tab.page
    await let_in(page, pages, resources, admin)
    await page.goto("/gallery")
    await page.context.set_offline(True)
    await page.get_by_role("combobox", name="Model").select_option("acme/flux-dev")
    await expect(page.get_by_role("alert")).to_have_text("The server does not answer; what you see may be old.")
    await page.context.set_offline(False)
    await page.get_by_role("combobox", name="Model").select_option("globex/whisper")
    await expect(page.locator("#trouble")).to_be_hidden()
