"""What every request for a page passes: who looks, whether they may, and that a form was sent by one of our own pages.

In the route's class, as for the api, so that nothing of a body is believed before.
"""

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from sqlalchemy import Row

from api.state import State
from api.web.access import Audience, audience_of
from api.web.cookies import Cookies
from api.web.views import View, Viewer, viewer_of
from core.errors import Forbidden, NotFound
from core.people import audit, sessions
from core.people.audit import Actor

Handler = Callable[[Request], Awaitable[Response]]

_ADMIN_PREFIX = "/admin/"
_SAFE = ("GET", "HEAD")
_OWN_SITES = ("same-origin", "none")
_FOREIGN = "This form was sent from another site, so nothing was done."
_STALE = "This form was open for too long, or in another session. Go back, reload the page, and send it again."


class PageRoute(APIRoute):
    """The class of every page: `APIRouter(route_class=PageRoute, include_in_schema=False)`."""

    def get_route_handler(self) -> Handler:
        audience = audience_of(self.endpoint)
        handle = super().get_route_handler()

        async def gated(request: Request) -> Response:
            return await _pass(request, audience, handle)

        return gated


async def _pass(request: Request, audience: Audience, handle: Handler) -> Response:
    state: State = request.app.state.millrace
    cookies = Cookies(state.settings)
    secret = cookies.get(request, "session")
    session = await _session(state, secret) if secret else None
    viewer = viewer_of(session, secret) if session else None
    if audience is not Audience.ANYONE and viewer is None:
        return to_login(request)
    _admit(request, audience, viewer)
    if request.method not in _SAFE:
        # Anyone's form may have been open since before this person logged in, in another tab.
        await _refuse_foreign(request, None if audience is Audience.ANYONE else viewer)
    view = request.state.view = View(request, cookies, viewer)
    with audit.acting(_actor(viewer, view.address)):
        response = await handle(request)
    # A form may have ended this session, or set the cookie of another.
    if session is not None and session.is_stale and request.method in _SAFE:
        await _prolong(state, session.session_id)
        cookies.set(response, "session", secret, sessions.LIFETIME_SECONDS)
    return response


async def _session(state: State, secret: str) -> Row | None:
    async with state.database.autocommit() as tx:
        return await sessions.find(tx, secret)


async def _prolong(state: State, session_id: bytes) -> None:
    async with state.database.transaction() as tx:
        await sessions.prolong(tx, session_id)


def _admit(request: Request, audience: Audience, viewer: Viewer | None) -> None:
    """Raises `NotFound`. Whatever a page says of itself, what stands under /admin is for admins."""
    is_for_admins = audience is Audience.ADMINS or request.url.path.startswith(_ADMIN_PREFIX)
    if is_for_admins and not (viewer and viewer.is_admin):
        raise NotFound(f"There is nothing at {request.url.path}.")


def to_login(request: Request) -> Response:
    """And back again, where that makes sense: what was posted is lost."""
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    where = f"/login?next={quote(path, safe='')}" if request.method in _SAFE else "/login"
    if "hx-request" in request.headers:  # Else the page for logging in would land inside this one.
        return Response(status_code=401, headers={"HX-Redirect": "/login", "Cache-Control": "no-store"})
    return RedirectResponse(where, 303, {"Cache-Control": "no-store"})


async def _refuse_foreign(request: Request, viewer: Viewer | None) -> None:
    """Raises `Forbidden`. Browsers tell the site a request comes from, over plain http by its `Origin` only."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin", "")
    is_own = site in _OWN_SITES if site else urlsplit(origin).netloc == request.headers.get("host")
    if not is_own:
        raise Forbidden(_FOREIGN)
    if viewer is not None:
        token = (await request.form()).get("csrf") or request.headers.get("x-csrf-token")
        if not isinstance(token, str) or not hmac.compare_digest(token.encode(), viewer.csrf.encode()):
            raise Forbidden(_STALE)


def _actor(viewer: Viewer | None, address: str) -> Actor:
    if viewer is None:
        return Actor("a visitor", address=address or None)
    return Actor(f"{viewer.account.username} ({viewer.email})", viewer.account.id, address=address or None)
