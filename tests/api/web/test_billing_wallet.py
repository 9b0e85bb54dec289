"""An owner's way to more money: by card, and by itself; on a server that takes cards."""

import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from core.resources import Resources
from core.settings import Settings
from tests.api.serving import serving
from tests.api.web.conftest import visitor_of
from tests.api.web.people import Person, cookie_of
from tests.support.paying import Till, open_till, settings_for

WALLET = "/account/billing/wallet"


@pytest.fixture(scope="module")
async def till(resources: Resources) -> AsyncIterator[Till]:
    async with open_till(resources) as till:
        yield till


@pytest.fixture(scope="module")
def paying_pages(settings: Settings, till: Till) -> Iterator[Settings]:
    with serving(settings_for(settings, till.stripe)) as served:
        yield served


@pytest.fixture
async def owner(paying_pages: Settings, resources: Resources, person: Person) -> AsyncIterator[httpx.AsyncClient]:
    async with visitor_of(paying_pages, await cookie_of(resources, person)) as owner:
        yield owner


async def post(owner: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    shown = (await owner.get(path if path.endswith(("top-up", "recharge")) else WALLET)).text
    hidden = dict(re.findall(r'<input type="hidden" name="(csrf|once)" value="([^"]+)"', shown))
    return await owner.post(path, data={**hidden, **fields})


async def top_up(owner: httpx.AsyncClient, till: Till, amount: str) -> None:
    answer = await post(owner, f"{WALLET}/top-up", amount=amount)
    assert answer.status_code == 303
    seen = len(till.stripe.events)
    till.stripe.pay(answer.headers["location"].rpartition("/")[2])
    for event in till.stripe.events[seen:]:
        await till.hear(event)


async def test_a_top_up_by_card_is_paid_at_the_provider_and_then_in_the_wallet(
    owner: httpx.AsyncClient, till: Till
) -> None:
    page = await owner.get(f"{WALLET}/top-up")
    # Else the browser would not follow the form to where one pays.
    assert "form-action 'self' https://checkout.stripe.com" in page.headers["content-security-policy"]
    await top_up(owner, till, "25")
    page = (await owner.get(WALLET)).text
    assert "succeeded" in page
    assert 'title="$25.00">$25.00</p>' in page


async def test_an_amount_that_no_card_can_pay_is_refused_beside_its_field(owner: httpx.AsyncClient) -> None:
    for amount, problem in (("0.5", "A top-up is 5 to 10000 dollars"), ("much", "no amount of dollars")):
        answer = await post(owner, f"{WALLET}/top-up", amount=amount)
        assert answer.status_code == 422
        assert problem in answer.text


async def test_a_saved_card_recharges_by_itself_until_it_is_told_not_to(owner: httpx.AsyncClient, till: Till) -> None:
    refused = await post(owner, f"{WALLET}/recharge", below="10", to="50")
    assert "There is no saved payment method" in refused.text
    await top_up(owner, till, "5")
    assert (await post(owner, f"{WALLET}/recharge", below="10", to="50")).status_code == 303
    assert "the card is charged up to <strong>$50.00</strong>" in (await owner.get(WALLET)).text
    assert (await post(owner, f"{WALLET}/recharge/stop")).status_code == 303
    assert "Nothing is charged unless you pay." in (await owner.get(WALLET)).text
    assert (await post(owner, f"{WALLET}/card/forget")).status_code == 303
    assert "No card yet" in (await owner.get(WALLET)).text
