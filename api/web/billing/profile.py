"""What stands on an Account's invoices: set by its owner, its tax by an admin."""

from dataclasses import replace

from fastapi import APIRouter, Response
from sqlalchemy import Row

from api.dependencies import Reading, StateDep
from api.web.access import page
from api.web.billing.actions import send
from api.web.billing.forms import Field, Form, Given, Wrong, show
from api.web.billing.place import ACCOUNT, ADMIN
from api.web.gate import PageRoute
from api.web.views import Page
from core.database import Transaction
from core.invoices import billing_profiles
from core.invoices.billing_profiles import Profile
from core.people import accounts

router = APIRouter(route_class=PageRoute)

_PARTS_OF_PERCENT = 10_000


def _fields(profile: Profile) -> list[Field]:
    return [
        Field("name", "Name", value=profile.name, hint="Of the company or the person who pays."),
        Field("address", "Address", "lines", profile.address),
        Field("email", "Email for invoices", value=profile.email),
        Field("tax_id", "Tax number", value=profile.tax_id, hint="Such as a VAT id; stands on the invoice."),
        Field("locale", "Numbers and dates as in", value=profile.locale, hint="Such as en_US, de_DE or fr_FR."),
        Field("timezone", "Months by the clock of", value=profile.timezone, hint="Such as UTC or Europe/Berlin."),
    ]


def _own_form(profile: Profile) -> Form:
    return Form(
        "Billing profile",
        "Stands on your invoices from the next one on; those that are issued stay as they are.",
        f"{ACCOUNT}/profile",
        "Save",
        _fields(profile),
        [("Billing", ACCOUNT)],
        back=f"{ACCOUNT}/profile",
    )


def _given(profile: Profile, sent: Given) -> Profile:
    return replace(profile, **{each.name: sent.text(each.name) for each in _fields(profile)})


@router.get("/profile")
@page()
async def own_form(view: Page, tx: Reading) -> Response:
    return show(view, _own_form(await billing_profiles.get(tx, view.viewer.account.id)))


@router.post("/profile")
@page()
async def own(view: Page, tx: Reading, state: StateDep) -> Response:
    account_id = view.viewer.account.id
    before = await billing_profiles.get(tx, account_id)

    async def do(tx: Transaction, sent: Given) -> str:
        await billing_profiles.put(tx, account_id, _given(before, sent))
        return "Your billing profile is saved."

    return await send(view, state, _own_form(before), do)


admin = APIRouter(prefix="/accounts/{username}", route_class=PageRoute)


def _admin_form(account: Row, profile: Profile) -> Form:
    path = f"{ADMIN}/accounts/{account.username}"
    percent = f"{profile.tax_parts_per_million / _PARTS_OF_PERCENT:g}"
    return Form(
        f"Billing profile of {account.username}",
        "Stands on its invoices from the next one on; those that are issued stay as they are.",
        f"{path}/profile",
        "Save",
        [
            *_fields(profile),
            Field("tax_name", "Name of the tax", value=profile.tax_name, hint="Such as VAT. Empty: no tax line."),
            Field("tax_percent", "Tax in percent", value=percent),
        ],
        [("Billing", ADMIN), ("Accounts", f"{ADMIN}/accounts"), (account.username, path)],
        back=path,
    )


@admin.get("/profile")
@page(admin=True)
async def any_form(view: Page, tx: Reading, username: str) -> Response:
    account = await accounts.by_username(tx, username)
    return show(view, _admin_form(account, await billing_profiles.get(tx, account.id)))


@admin.post("/profile")
@page(admin=True)
async def any(view: Page, tx: Reading, state: StateDep, username: str) -> Response:
    account = await accounts.by_username(tx, username)
    before = await billing_profiles.get(tx, account.id)

    async def do(tx: Transaction, sent: Given) -> str:
        tax = {"tax_name": sent.text("tax_name"), "tax_parts_per_million": _parts(sent.text("tax_percent"))}
        await billing_profiles.put(tx, account.id, replace(_given(before, sent), **tax))
        return f"The billing profile of {account.username} is saved."

    return await send(view, state, _admin_form(account, before), do)


def _parts(text: str) -> int:
    try:
        parts = float(text or 0) * _PARTS_OF_PERCENT
        return round(parts)
    except (ValueError, OverflowError):
        raise Wrong("tax_percent", "Write a number like 19 or 7.7.") from None
