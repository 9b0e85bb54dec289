"""Where among the billing pages a request is: whose money it may see, which days and what else was chosen.

All of it is in the URL. `Place.to` makes the links between these pages, which keep what was chosen. Under
`/account/billing` the Account is always the viewer's own, whatever the query says.
"""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends
from sqlalchemy import Row, select

from api.dependencies import Reading
from api.web.ranges import DateRange, date_range
from api.web.views import Page
from core.clock import now
from core.database import Transaction
from core.errors import NotFound
from core.people import accounts
from core.reports.filters import COLUMNS, Filter
from core.tables import Account, Token
from core.usage.metering import PHASES

ADMIN, ACCOUNT = "/admin/billing", "/account/billing"
#: In the URL: those that have none, such as runs that went to no Deployment.
NONE = "-"
_DAYS = ("span", "since", "until")
_CHOICES = (*COLUMNS, "tag")


@dataclass(frozen=True, slots=True)
class Place:
    base: str
    account: Row | None
    """Whose money it is about: the viewer's own; for an admin the chosen one, or None for all."""
    range: DateRange
    filter: Filter
    query: dict[str, str]
    """What was chosen, as the URL says it."""
    problem: str = ""
    """What the URL asks for and is not there."""

    @property
    def is_admin(self) -> bool:
        return self.base == ADMIN

    @property
    def own_id(self) -> str | None:
        """The Account to which everything is limited; None: an admin may see all."""
        return None if self.is_admin else self.filter.account

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen beside the days."""
        return {name: value for name, value in self.query.items() if name in _CHOICES}

    def to(self, page: str = "", **changes: Any) -> str:
        """A billing page with what was chosen and these changes; None takes one out."""
        if changes.keys() & set(_DAYS):
            changes = dict.fromkeys(_DAYS) | changes
        query = {name: str(value) for name, value in {**self.query, **changes}.items() if value is not None}
        path = f"{self.base}/{page}" if page else self.base
        return f"{path}?{urlencode(query, safe='/:,=')}" if query else path

    def on(self, day: date) -> dict[str, str]:
        """Changes for `to` that leave one day."""
        return {"since": str(day), "until": str(day)}

    def plain(self, page: str = "") -> str:
        """A billing page without anything chosen."""
        return f"{self.base}/{page}" if page else self.base


async def _place(view: Page, tx: Reading) -> Place:
    is_admin = view.request.url.path.startswith(ADMIN)
    if is_admin and not view.viewer.is_admin:
        raise NotFound(f"There is nothing at {view.request.url.path}.")
    query = {name: value for name, value in view.request.query_params.items() if value and name in (*_DAYS, *_CHOICES)}
    account, problem = view.viewer.account, ""
    if is_admin:
        account, problem = await _chosen_account(tx, query)
    else:
        query.pop("account", None)
    days = date_range(now().date(), *(query.get(name, "") for name in _DAYS))
    base = ADMIN if is_admin else ACCOUNT
    filter = _filter(query, days, account.id if account else None)
    return Place(base, account, days, filter, query, problem)


#: What every page's function takes beside its `Page`.
Here = Annotated[Place, Depends(_place)]


async def _chosen_account(tx: Transaction, query: dict[str, str]) -> tuple[Row | None, str]:
    """By its name, or as the owner of a chosen token."""
    username = query.get("account")
    if not username:
        owner = select(Account).join(Token, Token.account_id == Account.id).where(Token.id == query.get("token"))
        return (await tx.first(owner) if "token" in query else None), ""
    try:
        return await accounts.by_username(tx, username), ""
    except NotFound:
        return None, f"There is no account {username}: this is about all of them."


def _filter(query: dict[str, str], days: DateRange, account_id: str | None) -> Filter:
    values = {name: _value(query.get(name)) for name in COLUMNS if name != "account"}
    if values["phase"] not in PHASES:
        values["phase"] = None
    name, equals, value = query.get("tag", "").partition("=")
    tag = (name, value) if equals else None
    return Filter(days.first, days.last, account=account_id, tag=tag, **values)


def _value(text: str | None) -> str | None:
    return "" if text == NONE else text
