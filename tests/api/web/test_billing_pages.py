"""The three questions in a real browser, and that no Account sees or moves another one's money."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from playwright.async_api import Browser, Page, expect
from sqlalchemy import func, select

from api.web import formats
from api.web.billing.why import seconds
from core.clock import now
from core.money import wallets
from core.people import logins
from core.resources import Resources
from core.settings import Settings
from core.tables import Alert, AuditEvent, LedgerEntry, Price, SpendLimit, UsageRecord
from tests.api.web.conftest import visitor_of
from tests.api.web.people import PASSWORD, Person, add_person, cookie_of, let_in
from tests.support.billing_scene import L40S, PRICES, Scene, add_usage_with_long_names, furnish
from tests.support.browser import PHONE, WIDE, Tab, open_tab

ADMIN, OWN = "/admin/billing", "/account/billing"
PAGES = ("", "/usage", "/runs", "/idle", "/money", "/invoices", "/prices")
OF_ADMINS = ("/margin", "/accounts", "/books", "/prices/new")
OF_OWNERS = ("/wallet", "/limits", "/limits/new", "/profile")


@pytest.fixture(scope="module")
async def story(resources: Resources) -> Scene:
    return await furnish(resources, f"-{now():%f}", days=2)


@pytest.fixture(scope="module")
async def boss(resources: Resources) -> Person:
    return await add_person(resources, is_admin=True)


@pytest.fixture
async def page(browser: Browser, pages: Settings, resources: Resources, boss: Person) -> AsyncIterator[Page]:
    """An admin's, which complains about nothing."""
    async with open_tab(browser, pages.url) as tab:
        await let_in(tab.page, pages, resources, boss)
        yield tab.page
        assert not tab.complaints


async def owner_of(resources: Resources, account_id: str, username: str) -> Person:
    async with resources.database.transaction() as tx:
        login = await logins.create(tx, account_id, f"{username}-{now():%f}@example.com", PASSWORD)
    return Person(account_id, username, login.id, login.email)


@pytest.fixture
async def administrator(pages: Settings, resources: Resources, boss: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor_of(pages, await cookie_of(resources, boss)) as client:
        yield client


@pytest.fixture
async def researcher(pages: Settings, resources: Resources, story: Scene) -> AsyncIterator[httpx.AsyncClient]:
    team = story.teams[1]
    person = await owner_of(resources, team.id, team.username)
    async with visitor_of(pages, await cookie_of(resources, person)) as client:
        yield client


async def spent(resources: Resources, story: Scene, model: str) -> int:
    """By the first team, yesterday."""
    yesterday = now().date() - timedelta(days=1)
    chosen = (UsageRecord.account_id == story.vision.id, UsageRecord.model == model, UsageRecord.day == yesterday)
    async with resources.database.autocommit() as tx:
        return int(await tx.scalar(select(func.sum(UsageRecord.amount_nanos)).where(*chosen)))


# --- the three questions ----------------------------------------------------------------------------------------------


async def test_what_did_an_account_spend_yesterday_on_which_model(
    page: Page, resources: Resources, story: Scene
) -> None:
    await page.goto(ADMIN)
    await page.get_by_role("combobox", name="Account").fill(story.vision.username)
    await page.get_by_role("button", name="Show spending").click()
    table = page.get_by_role("region", name="Usage by model")
    model = story.models["segment"]
    row = table.get_by_role("row").filter(has_text=model)
    amount = await spent(resources, story, model)
    await expect(row.get_by_title(formats.exact_money(amount))).to_be_visible()
    # Every number leads to the rows behind it.
    await row.get_by_title(formats.exact_money(amount)).click()
    await expect(page.get_by_role("heading", name="Usage records")).to_be_visible()
    await expect(page.get_by_text(f"{formats.money(amount)} charged")).to_be_visible()
    assert story.vision.username in page.url
    assert "span=yesterday" in page.url
    # And one of these to why it costs that.
    await page.get_by_role("region", name="Usage records").locator("tbody a").first.click()
    await expect(page.get_by_role("heading", name="Why this amount")).to_be_visible()


async def test_one_step_after_the_other_leads_from_an_account_to_its_runs(page: Page, story: Scene) -> None:
    await page.goto(f"{ADMIN}/usage?span=yesterday")
    await page.get_by_role("row").get_by_role("link", name=story.vision.username, exact=True).click()
    await page.get_by_role("region").get_by_role("link", name=story.models["segment"], exact=True).click()
    await expect(page.get_by_role("heading", name="Usage records")).to_be_visible()
    body = page.get_by_role("region", name="Usage records").locator("tbody")
    await expect(body).to_contain_text(f"{story.vision.username}/segment-live")
    await expect(body).not_to_contain_text("upscale")


async def test_why_a_run_cost_what_it_cost(page: Page, resources: Resources, story: Scene) -> None:
    await page.goto(ADMIN)
    await page.get_by_label("Id of a prediction").fill(story.run_id)
    await page.get_by_role("button", name="Explain").click()
    async with resources.database.autocommit() as tx:
        record = await tx.one(select(UsageRecord).where(UsageRecord.cause_id == story.run_id))
    amount = formats.exact_money(record.amount_nanos)
    equation = page.locator(".equation")
    for part in (f"{seconds(record.micros)} s", formats.exact_money(PRICES[L40S]), amount):
        await expect(equation).to_contain_text(part)
    for fact in ("production", "project=catalogue", "$0.02 set aside", f"hardware:{L40S}", "revenue:usage"):
        await expect(page.locator("main")).to_contain_text(fact)


async def test_what_idling_cost(page: Page, resources: Resources, story: Scene) -> None:
    await page.goto(ADMIN)
    await page.get_by_role("form", name="What idling cost").get_by_role("combobox").select_option("yesterday")
    await page.get_by_role("button", name="Show idling").click()
    row = page.get_by_role("region", name="Idling by Model").get_by_role("row")
    row = row.filter(has_text=story.models["segment"])
    yesterday = now().date() - timedelta(days=1)
    idle = (UsageRecord.phase == "idle", UsageRecord.model == story.models["segment"], UsageRecord.day == yesterday)
    async with resources.database.autocommit() as tx:
        record = await tx.one(select(UsageRecord).where(*idle))
    await expect(row).to_contain_text(formats.duration(record.micros))
    # At the list price, and charged to its owner: the same.
    await expect(row.get_by_title(formats.exact_money(record.amount_nanos))).to_have_count(2)
    await row.get_by_role("link", name=formats.duration(record.micros)).click()
    await expect(page.get_by_role("region", name="Usage records").locator("tbody tr")).to_have_count(1)


# --- getting about ----------------------------------------------------------------------------------------------------


async def test_what_was_chosen_survives_from_page_to_page_and_can_be_taken_out(page: Page, story: Scene) -> None:
    await page.goto(f"{ADMIN}/usage?span=7d&account={story.vision.username}&model={story.models['segment']}")
    tabs = page.get_by_role("navigation", name="Billing")
    await tabs.get_by_role("link", name="Runs").click()
    await tabs.get_by_role("link", name="Idling").click()
    assert f"account={story.vision.username}" in page.url
    await page.get_by_role("link", name="Without model").click()
    assert "model=" not in page.url
    assert "span=7d" in page.url
    await expect(page.get_by_text(story.models["upscale"]).first).to_be_visible()


async def test_a_filter_is_applied_at_once_and_kept_in_the_url(page: Page, story: Scene) -> None:
    await page.goto(f"{ADMIN}/usage?span=7d")
    await page.get_by_role("combobox", name="Account").fill(story.vision.username)
    await page.get_by_role("combobox", name="Model").focus()
    await expect(page.get_by_role("list", name="Chosen")).to_contain_text(story.vision.username)
    await expect(page).to_have_url(re.compile(f"account={story.vision.username}"))


async def test_the_balance_is_live(page: Page, resources: Resources, story: Scene, administrator) -> None:
    path = f"{ADMIN}/accounts/{story.vision.username}"
    await page.goto(path)
    before = await page.locator("#balance .stat-value").get_attribute("title")
    await post(administrator, f"{path}/credit", amount="7", kind="paid", reason="Bank transfer")
    await expect(page.locator("#balance .stat-value")).not_to_have_attribute("title", before or "")


async def test_every_page_of_an_admin_can_be_looked_at(
    browser: Browser, pages: Settings, resources: Resources, story: Scene, boss: Person
) -> None:
    """Nothing sticks out, however long names are, and the browser refuses nothing."""
    await add_usage_with_long_names(resources)
    async with open_tab(browser, pages.url, WIDE) as tab:
        await let_in(tab.page, pages, resources, boss)
        for path in (*PAGES, *OF_ADMINS, f"/accounts/{story.vision.username}"):
            await looked_at(tab, f"{ADMIN}{path}")


async def test_every_page_of_an_owner_can_be_looked_at_on_a_phone_in_the_dark(
    browser: Browser, pages: Settings, resources: Resources, story: Scene
) -> None:
    owner = await owner_of(resources, story.vision.id, story.vision.username)
    async with open_tab(browser, pages.url, PHONE, "dark") as tab:
        await let_in(tab.page, pages, resources, owner)
        for path in (*PAGES, *OF_OWNERS, f"/runs/prediction:{story.run_id}"):
            await looked_at(tab, f"{OWN}{path}")


async def looked_at(tab: Tab, path: str) -> None:
    answer = await tab.page.goto(path)
    assert answer is not None
    assert answer.status == 200, path
    assert not tab.complaints, path
    assert not await tab.looks_wider_than_the_screen(), path


# --- whose it is ------------------------------------------------------------------------------------------------------


async def test_no_page_shows_another_accounts_money(researcher: httpx.AsyncClient, story: Scene) -> None:
    others = {story.vision.username, story.teams[2].username}
    for path in (*PAGES, *OF_OWNERS):
        answer = await researcher.get(f"{OWN}{path}?account={story.vision.username}&span=30d")
        assert answer.status_code == 200, path
        shown = answer.text.replace(f"account={story.vision.username}", "")
        assert not [name for name in others if name in shown], path


async def test_no_download_has_another_accounts_rows(researcher: httpx.AsyncClient, story: Scene) -> None:
    for path in ("/runs.csv", "/usage.csv?by=account", "/money.csv", "/idle.csv", "/invoices/all.csv"):
        answer = await researcher.get(f"{OWN}{path}", params={"account": story.vision.username, "span": "30d"})
        assert answer.headers["content-type"].startswith("text/csv")
        assert story.vision.username not in answer.text, path
        assert story.teams[2].username not in answer.text, path


async def test_another_accounts_run_and_transaction_are_not_there(
    researcher: httpx.AsyncClient, resources: Resources, story: Scene
) -> None:
    async with resources.database.autocommit() as tx:
        theirs = await tx.scalar(
            select(LedgerEntry.transaction_id).where(
                LedgerEntry.ledger_account == f"account:{story.vision.id}", LedgerEntry.kind == "top_up"
            )
        )
    for path in (f"/runs/prediction:{story.run_id}", f"/money/{theirs}", f"/why?id={story.run_id}"):
        assert (await researcher.get(f"{OWN}{path}")).status_code == 404, path
    assert (await researcher.get(f"{ADMIN}/accounts/{story.vision.username}")).status_code == 404


# --- what an admin does -----------------------------------------------------------------------------------------------


async def form_of(client: httpx.AsyncClient, path: str) -> dict[str, str]:
    """What a browser would send of it unchanged."""
    text = (await client.get(path)).text
    return dict(re.findall(r'<input type="hidden" name="(csrf|once)" value="([^"]+)"', text))


async def post(client: httpx.AsyncClient, path: str, times: int = 1, **fields: str) -> httpx.Response:
    data = {**await form_of(client, path), **fields}
    for _ in range(times):
        answer = await client.post(path, data=data)
    return answer


async def balance(resources: Resources, account_id: str) -> int:
    async with resources.database.autocommit() as tx:
        return (await wallets.get(tx, account_id)).balance_nanos


async def last_event(resources: Resources, account_id: str) -> AuditEvent:
    async with resources.database.autocommit() as tx:
        own = select(AuditEvent).where(AuditEvent.account_id == account_id)
        return await tx.one(own.order_by(AuditEvent.number.desc()).limit(1))


async def test_money_is_added_once_however_often_its_form_is_sent(
    administrator: httpx.AsyncClient, resources: Resources, story: Scene, boss: Person
) -> None:
    team = story.teams[1]
    path, before = f"{ADMIN}/accounts/{team.username}", await balance(resources, team.id)
    answer = await post(administrator, f"{path}/credit", 2, amount="$12.50", kind="promotional", reason="A gift")
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert await balance(resources, team.id) == before + 12_500_000_000
    assert "A gift" in (await administrator.get(path)).text
    event = await last_event(resources, team.id)
    assert (event.action, event.actor_account_id) == ("credit.promotion", boss.account_id)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"amount": "twelve", "reason": "x"}, "no amount of dollars"),
        ({"amount": "12", "reason": ""}, "This is needed."),
        ({"amount": "0", "reason": "x"}, "Credit is more than 0"),
        ({"amount": "1", "reason": "x", "expires": "2020-01-01"}, "expired already"),
    ],
)
async def test_a_form_that_cannot_be_done_says_why_and_keeps_what_was_typed(
    administrator: httpx.AsyncClient, resources: Resources, story: Scene, fields: dict[str, str], problem: str
) -> None:
    before = await balance(resources, story.vision.id)
    path = f"{ADMIN}/accounts/{story.vision.username}/credit"
    answer = await post(administrator, path, kind="paid", **fields)
    assert answer.status_code == 422
    assert problem in answer.text
    assert f'value="{fields["amount"]}"' in answer.text
    assert await balance(resources, story.vision.id) == before


async def test_a_charge_is_refunded_in_part_and_never_beyond_it(
    administrator: httpx.AsyncClient, resources: Resources, story: Scene
) -> None:
    record = f"prediction:{story.run_id}"
    path, before = f"{ADMIN}/refunds/{record}", await balance(resources, story.vision.id)
    answer = await post(administrator, path, amount="0.001", reason="It was slow")
    assert answer.headers["location"] == f"{ADMIN}/runs/{record}"
    assert await balance(resources, story.vision.id) == before + 1_000_000
    page = (await administrator.get(f"{ADMIN}/runs/{record}")).text
    assert "It was slow" in page
    answer = await post(administrator, path, amount="5", reason="More than it was")
    assert answer.status_code == 422
    assert "are left to be given back" in answer.text


async def test_terms_and_adjustments_are_on_record(
    administrator: httpx.AsyncClient, resources: Resources, story: Scene
) -> None:
    team = story.teams[2]
    path, before = f"{ADMIN}/accounts/{team.username}", await balance(resources, team.id)
    await post(administrator, f"{path}/terms", limit="20", when_empty="finish", low="1.5")
    async with resources.database.autocommit() as tx:
        wallet = await wallets.get(tx, team.id)
    assert (wallet.credit_limit_nanos, wallet.low_balance_nanos) == (20_000_000_000, 1_500_000_000)
    assert (await last_event(resources, team.id)).action == "wallet.set_terms"
    await post(administrator, f"{path}/adjust", amount="1", reason="Counted twice")
    assert await balance(resources, team.id) == before - 1_000_000_000
    assert "Counted twice" in (await administrator.get(f"{ADMIN}/money?span=today&kind=adjustment")).text


async def test_a_price_is_set_from_now_on(administrator: httpx.AsyncClient, resources: Resources, story: Scene) -> None:
    fields = {"kind": "hardware", "subject": L40S, "account": story.teams[1].username, "reason": "Agreed"}
    answer = await post(administrator, f"{ADMIN}/prices/new", amount="0.0005", **fields)
    assert answer.status_code == 303
    async with resources.database.autocommit() as tx:
        price = await tx.one(select(Price).where(Price.account_id == story.teams[1].id))
    assert (price.nanos_per_unit, price.reason) == (500_000, "Agreed")
    refused = await post(administrator, f"{ADMIN}/prices/new", amount="1", **{**fields, "subject": "gpu-of-nobody"})
    assert "There is no hardware gpu-of-nobody" in refused.text


async def test_the_books_are_checked_on_demand(administrator: httpx.AsyncClient) -> None:
    answer = await administrator.post(f"{ADMIN}/books/check", data=await form_of(administrator, f"{ADMIN}/books"))
    assert answer.status_code == 303
    assert "Last checked" in (await administrator.get(f"{ADMIN}/books")).text


# --- what an owner does -----------------------------------------------------------------------------------------------


async def test_an_owner_sets_a_limit_is_told_and_reads_it(
    researcher: httpx.AsyncClient, resources: Resources, story: Scene
) -> None:
    own = story.teams[1].id
    fields = {"scope": "model", "model": story.models["embed"], "stops": "no", "thresholds": "10, 90 %"}
    answer = await post(researcher, f"{OWN}/limits/new", amount="0.01", **fields)
    assert answer.status_code == 303
    async with resources.database.autocommit() as tx:
        limit = await tx.one(select(SpendLimit).where(SpendLimit.account_id == own))
        alert = await tx.first(select(Alert).where(Alert.account_id == own, Alert.kind == "spend_limit"))
    assert (limit.thresholds, limit.stops) == ([10, 90], False)
    csrf = {"csrf": (await form_of(researcher, f"{OWN}/limits"))["csrf"]}
    if alert is not None:  # On the first of a month nothing has been spent yet.
        assert "0.01 dollars" in (await researcher.get(OWN)).text
        assert (await researcher.post(f"{OWN}/limits/alerts/{alert.id}/seen", data=csrf)).status_code == 303
    assert (await researcher.post(f"{OWN}/limits/{limit.id}/remove", data=csrf)).status_code == 303
    assert story.models["embed"] not in (await researcher.get(f"{OWN}/limits")).text.partition("Alerts</h2>")[0]


async def test_without_a_payment_provider_the_page_says_so(researcher: httpx.AsyncClient) -> None:
    assert "takes no card payments" in (await researcher.get(f"{OWN}/wallet")).text
    assert (await researcher.get(f"{OWN}/wallet/top-up")).status_code == 409


async def test_an_owner_sets_what_stands_on_invoices_but_not_its_tax(
    researcher: httpx.AsyncClient, administrator: httpx.AsyncClient, story: Scene
) -> None:
    fields = {"name": "Research Ltd", "address": "1 Main Street", "email": "", "tax_id": "", "timezone": "UTC"}
    await post(researcher, f"{OWN}/profile", **fields, locale="de_DE", tax_name="None", tax_percent="0.5")
    page = (await administrator.get(f"{ADMIN}/accounts/{story.teams[1].username}/profile")).text
    assert "Research Ltd" in page
    assert 'name="tax_name" type="text" value=""' in page
    refused = await post(researcher, f"{OWN}/profile", **{**fields, "timezone": "Mars"}, locale="de_DE")
    assert refused.status_code == 422
