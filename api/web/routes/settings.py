"""One's own login: its password, and the browsers that are logged in by it."""

from fastapi import APIRouter, Response

from api.dependencies import Reading, StateDep
from api.state import State
from api.web.access import page
from api.web.browsers import browser_name
from api.web.gate import PageRoute
from api.web.throttle import count_try
from api.web.views import Page, View
from core.database import Transaction
from core.errors import Invalid, TooManyRequests
from core.people import audit, logins, passwords, sessions

_PATH = "/account/settings"

router = APIRouter(route_class=PageRoute)


@router.get(_PATH)
@page()
async def show(view: Page, tx: Reading) -> Response:
    return await _render(view, tx)


@router.post(f"{_PATH}/password")
@page()
async def change_password(view: Page, state: StateDep) -> Response:
    form = await view.request.form()
    current, new = str(form.get("current", "")), str(form.get("new", ""))
    if errors := await _problems(view, state, current, new):
        async with state.database.autocommit() as tx:
            return await _render(view, tx, 422, errors)
    async with state.database.transaction() as tx:
        await logins.change_password(tx, view.viewer.login_id, new)
        secret = await _start_session(view, tx)
    response = view.redirect(_PATH, "Your password is changed. Every other browser is logged out.")
    view.cookies.set(response, "session", secret, sessions.LIFETIME_SECONDS)
    return response


@router.post(f"{_PATH}/sessions/end")
@page()
async def log_out_everywhere(view: Page, state: StateDep) -> Response:
    viewer = view.viewer
    async with state.database.transaction() as tx:
        ended = await sessions.end_all(tx, viewer.login_id)
        await audit.record(
            tx, "session.end_all", viewer.email, account_id=viewer.account.id, after={"ended_sessions": ended}
        )
    response = view.redirect("/login", "You are logged out everywhere.")
    view.cookies.delete(response, "session")
    return response


async def _problems(view: View, state: State, current: str, new: str) -> dict[str, str]:
    """By the field they are about."""
    email = view.viewer.email
    try:
        passwords.require_acceptable(new)
        await count_try(state.resources.redis, email, view.address)
    except Invalid as error:
        return {"new": error.detail}
    except TooManyRequests as error:
        return {"current": f"Too many tries. Wait {-(-error.retry_after // 60)} minutes, then try again."}
    if await logins.check(state.database, email, current) is None:
        return {"current": "This is not your present password."}
    return {}


async def _start_session(view: View, tx: Transaction) -> str:
    agent = view.request.headers.get("user-agent", "")
    return await sessions.start(tx, view.viewer.login_id, view.address, agent)


async def _render(view: View, tx: Transaction, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    open_sessions = [
        {
            "browser": browser_name(row.user_agent),
            "address": row.address,
            "created_at": row.created_at,
            "is_this": row.id == view.viewer.session_id,
        }
        for row in await sessions.list_all(tx, view.viewer.login_id)
    ]
    return view.render(
        "settings.html", status=status, sessions=open_sessions, errors=errors or {}, shortest=passwords.SHORTEST
    )
