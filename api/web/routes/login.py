"""Logging in and out. What is wrong is never told apart: an email that is unknown, disabled, or another's password."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.dependencies import StateDep
from api.web.access import page
from api.web.gate import PageRoute
from api.web.routes.home import HOME
from api.web.throttle import count_try, forget_tries
from api.web.views import Page
from core.errors import TooManyRequests
from core.people import audit, logins, sessions

_WRONG = "The email or the password is wrong."
#: A path of this server; what a browser would take for another one's address is none.
_OWN_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")

router = APIRouter(route_class=PageRoute)


@router.get("/login")
@page(anyone=True)
async def show(view: Page, next: Annotated[str, Query()] = "") -> Response:
    if view.is_logged_in:
        return view.redirect(_own_path(next))
    return view.render("login.html", next=_own_path(next, ""), email="", error="")


@router.post("/login")
@page(anyone=True)
async def log_in(view: Page, state: StateDep) -> Response:
    form = await view.form()
    email, next = form.get("email", ""), form.get("next", "")

    def refuse(status: int, error: str) -> Response:
        return view.render("login.html", status=status, next=_own_path(next, ""), email=email, error=error)

    try:
        await count_try(state.resources.redis, email, view.address)
    except TooManyRequests as error:
        minutes = -(-error.retry_after // 60)
        response = refuse(429, f"Too many tries. Wait {minutes} minute{'s' if minutes > 1 else ''}, then try again.")
        response.headers.update(error.headers)
        return response
    # Spaces around a password belong to it.
    password = (await view.request.form()).get("password", "")
    login = await logins.check(state.database, email, password if isinstance(password, str) else "")
    if login is None:
        async with state.database.transaction() as tx:
            await audit.record(tx, "login.fail", email[:_EMAIL_SHOWN])
        return refuse(422, _WRONG)
    await forget_tries(state.resources.redis, email)
    async with state.database.transaction() as tx:
        if view.is_logged_in:
            await sessions.end(tx, view.viewer.session_id)
        secret = await sessions.start(tx, login.id, view.address, view.request.headers.get("user-agent", ""))
        await audit.record(tx, "session.start", login.email, account_id=login.account_id)
    response = view.redirect(_own_path(next))
    view.cookies.set(response, "session", secret, sessions.LIFETIME_SECONDS)
    return response


#: Of what somebody typed there.
_EMAIL_SHOWN = 254


@router.post("/logout")
@page()
async def log_out(view: Page, state: StateDep) -> Response:
    async with state.database.transaction() as tx:
        await sessions.end(tx, view.viewer.session_id)
        await audit.record(tx, "session.end", view.viewer.email, account_id=view.viewer.account.id)
    response = view.redirect("/login", "You are logged out.")
    view.cookies.delete(response, "session")
    return response


def _own_path(path: str, otherwise: str = HOME) -> str:
    return path if _OWN_PATH.fullmatch(path) and not path.startswith(("/login", "/logout")) else otherwise
