"""Invoices over the API: an account sees its own, an admin of the server all, and what is wrong is credited once."""

import csv
import io
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import Row, update

from core.ids import new_id
from core.invoices import invoicing
from core.people import accounts, audit_trail
from core.people.audit_trail import Filter
from core.resources import Resources
from core.settings import Settings
from core.tables import Account
from tests.api.conftest import client_of
from tests.api.scene import Caller, Scene
from tests.support.books import FEBRUARY, JANUARY
from tests.support.past_use import DOLLAR, use
from worker.invoices.making import keep_pdf

PATH = "/v1/billing/invoices"
PROFILE = "/v1/billing/profile"
BUYER = {
    "name": "Acme",
    "address": "1 Way\nTown",
    "email": "a@example.com",
    "tax_id": "X1",
    "locale": "de_DE",
    "timezone": "Europe/Berlin",
}


@pytest.fixture
async def admin(api: Settings, scene: Scene, resources: Resources) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks for an admin of the server."""
    caller = await scene.caller()
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == caller.id).values(is_admin=True))
    async with client_of(api, caller.token) as client:
        yield client


@pytest.fixture
def seller(settings: Settings) -> Settings:
    return settings.model_copy(update={"seller_name": "A seller", "invoice_prefix": f"A{new_id()[-12:].upper()}"})


async def issue(resources: Resources, seller: Settings, caller: Caller, *moments: Any) -> list[Row]:
    issued = []
    async with resources.database.transaction() as tx:
        account = await accounts.get(tx, caller.id)
        for moment in moments:
            await use(tx, account, moment, 10 * DOLLAR + 1)
        while (row := await invoicing.issue_next(tx, seller, caller.id)) is not None:
            issued.append(row)
    return issued


@pytest.fixture
async def invoice(resources: Resources, seller: Settings, caller: Caller, client: httpx.AsyncClient) -> Row:
    [row] = await issue(resources, seller, caller, JANUARY)
    return row


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_an_account_lists_its_invoices_newest_first(
    client: httpx.AsyncClient, resources: Resources, seller: Settings, caller: Caller
) -> None:
    january, february = await issue(resources, seller, caller, JANUARY, FEBRUARY)
    answer = (await client.get(PATH)).json()
    assert [row["number"] for row in answer["results"]] == [february.number, january.number]
    assert answer["next"] is None
    first = answer["results"][1]
    assert (first["kind"], first["month"], first["account"]) == ("invoice", "2024-01", caller.username)
    assert (first["total_nanos"], first["total"], first["due"]) == (10 * DOLLAR, "10.000000000", "10.000000000")
    assert "document" not in first


async def test_an_invoice_is_shown_with_all_that_stands_on_it(
    api: Settings, client: httpx.AsyncClient, invoice: Row
) -> None:
    shown = (await client.get(f"{PATH}/{invoice.id}")).json()
    assert shown["document"] == invoice.document
    assert shown["credit_notes"] == []
    url = f"{api.url}{PATH}/{invoice.id}"
    assert shown["urls"] == {"get": url, "pdf": f"{url}.pdf", "csv": f"{url}.csv"}


async def test_anothers_invoices_do_not_exist_but_for_an_admin_of_the_server(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, admin: httpx.AsyncClient, caller: Caller, invoice: Row
) -> None:
    for path in (f"{PATH}/{invoice.id}", f"{PATH}/{invoice.id}.csv", f"{PATH}/{invoice.id}.pdf"):
        assert (await stranger.get(path)).status_code == 404
    assert (await stranger.get(PATH)).json()["results"] == []
    assert (await stranger.get(PATH, params={"account": caller.username})).status_code == 403
    assert (await admin.get(f"{PATH}/{invoice.id}")).json()["number"] == invoice.number
    [row] = (await admin.get(PATH, params={"account": caller.username})).json()["results"]
    assert row["id"] == invoice.id
    assert invoice.id in [row["id"] for row in (await admin.get(PATH)).json()["results"]]


async def test_the_amounts_of_a_csv_add_up_to_the_total(client: httpx.AsyncClient, invoice: Row) -> None:
    answer = await client.get(f"{PATH}/{invoice.id}.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert f'filename="{invoice.number}.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["kind"], row["amount"]) for row in rows] == [
        ("usage", "10.000000001"),
        ("rounding", "-0.000000001"),
    ]
    assert sum(Decimal(row["amount"]) for row in rows) == 10
    assert (rows[0]["model"], rows[0]["unit"], rows[0]["quantity"]) == ("acme/model", "second", "1")


async def test_the_pdf_is_there_once_it_has_been_made(
    client: httpx.AsyncClient, resources: Resources, invoice: Row
) -> None:
    path = f"{PATH}/{invoice.id}.pdf"
    early = await client.get(path)
    assert (early.status_code, early.headers["retry-after"]) == (503, "1")
    await keep_pdf(resources, invoice.id)
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    assert answer.content.startswith(b"%PDF-")
    await keep_pdf(resources, invoice.id)
    assert (await client.get(path)).content == answer.content


# --- credit notes -----------------------------------------------------------------------------------------------------


async def test_an_admin_corrects_an_invoice(client: httpx.AsyncClient, admin: httpx.AsyncClient, invoice: Row) -> None:
    body = {"amount": "4.50", "reason": "Counted twice"}
    answer = await admin.post(f"{PATH}/{invoice.id}/credit-notes", json=body)
    assert answer.status_code == 201, answer.text
    note = answer.json()
    assert (note["kind"], note["corrects"], note["total"]) == ("credit_note", invoice.id, "4.500000000")
    shown = (await client.get(f"{PATH}/{invoice.id}")).json()
    assert [row["number"] for row in shown["credit_notes"]] == [note["number"]]
    assert (await client.get(f"{PATH}/{note['id']}")).json()["document"]["corrects"]["number"] == invoice.number
    rest = await admin.post(f"{PATH}/{invoice.id}/credit-notes", json={"reason": "All of it"})
    assert rest.json()["total"] == "5.500000000"
    over = await admin.post(f"{PATH}/{invoice.id}/credit-notes", json={"amount": "0.01", "reason": "More"})
    assert over.status_code == 409


async def test_the_same_request_again_credits_nothing_more(admin: httpx.AsyncClient, invoice: Row) -> None:
    key, body = {"Idempotency-Key": new_id()}, {"amount": "1", "reason": "Counted twice"}
    path = f"{PATH}/{invoice.id}/credit-notes"
    first, again = [await admin.post(path, json=body, headers=key) for _ in range(2)]
    assert first.json() == again.json()
    assert len((await admin.get(f"{PATH}/{invoice.id}")).json()["credit_notes"]) == 1


async def test_nobody_but_an_admin_of_the_server_credits_anything(client: httpx.AsyncClient, invoice: Row) -> None:
    answer = await client.post(f"{PATH}/{invoice.id}/credit-notes", json={"reason": "I would like that"})
    assert answer.status_code == 403


@pytest.mark.parametrize("amount", ["0", "-1", 1, "0.001", "1e3", "", "10000000000"])
async def test_what_is_no_amount_of_a_credit_note_is_refused(
    admin: httpx.AsyncClient, invoice: Row, amount: Any
) -> None:
    answer = await admin.post(f"{PATH}/{invoice.id}/credit-notes", json={"amount": amount, "reason": "Wrong"})
    assert answer.status_code == 422, answer.text


# --- profiles ---------------------------------------------------------------------------------------------------------


async def test_an_account_says_what_stands_on_its_invoices(client: httpx.AsyncClient, caller: Caller) -> None:
    before = (await client.get(PROFILE)).json()
    assert (before["name"], before["locale"], before["timezone"]) == ("", "en_US", "UTC")
    answer = await client.put(PROFILE, json=BUYER)
    assert answer.status_code == 200, answer.text
    assert (await client.get(PROFILE)).json() == answer.json()
    assert answer.json() == {"account": caller.username, "tax_name": "", "tax_parts_per_million": 0, **BUYER}


async def test_its_tax_is_set_by_an_admin_and_stays_when_the_account_changes_the_rest(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, caller: Caller, resources: Resources
) -> None:
    tax = {"tax_name": "VAT", "tax_parts_per_million": 190_000}
    assert (await client.put(PROFILE, json=BUYER | tax)).status_code == 403
    of_caller = {"account": caller.username}
    assert (await admin.put(PROFILE, json=BUYER | tax, params=of_caller)).json() == {**of_caller, **BUYER, **tax}
    renamed = (await client.put(PROFILE, json=BUYER | {"name": "Other"})).json()
    assert (renamed["name"], renamed["tax_parts_per_million"]) == ("Other", 190_000)
    # What it is already may be sent back.
    assert (await client.put(PROFILE, json=BUYER | tax)).status_code == 200
    async with resources.database.transaction() as tx:
        events = await audit_trail.page(tx, Filter(caller.id, "billing_profile."), None, 10)
    assert [event.actor_account_id == caller.id for event in events] == [True, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"locale": "xx"},
        {"locale": ""},
        {"timezone": "Mars"},
        {"timezone": "../UTC"},
        {"tax_parts_per_million": -1},
        {"tax_parts_per_million": 1_000_001},
        {"name": "x" * 501},
        {"name": None},
        {"name": "a\x00b"},
        {"number": "1"},
    ],
)
async def test_what_is_no_profile_is_refused(admin: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    answer = await admin.put(PROFILE, json=BUYER | wrong)
    assert answer.status_code == 422, answer.text


async def test_nobody_reads_or_writes_anothers_profile(stranger: httpx.AsyncClient, caller: Caller) -> None:
    params = {"account": caller.username}
    assert (await stranger.get(PROFILE, params=params)).status_code == 403
    assert (await stranger.put(PROFILE, params=params, json=BUYER)).status_code == 403
