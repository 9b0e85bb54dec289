"""What a route of a page is given: who looks, what was asked, and how to answer."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, unquote

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import Row

from api.web import navigation, pages
from api.web.cookies import Cookies

_THEMES = ("light", "dark")


@dataclass(frozen=True, slots=True)
class Viewer:
    """The person who is logged in. `csrf`: what the forms of this session carry."""

    account: Row
    login_id: str
    email: str
    session_id: bytes
    csrf: str

    @property
    def is_admin(self) -> bool:
        return self.account.is_admin


def viewer_of(row: Row, secret: str) -> Viewer:
    """From what `sessions.find` gives."""
    return Viewer(row, row.login_id, row.email, row.session_id, csrf_token(secret))


def csrf_token(secret: str) -> str:
    """Follows from the session's secret, which no page and no other site ever sees."""
    return hmac.digest(secret.encode(), b"forms of this session", hashlib.sha256).hex()


class View:
    def __init__(self, request: Request, cookies: Cookies, viewer: Viewer | None) -> None:
        self.request = request
        self.cookies = cookies
        self._viewer = viewer

    @property
    def viewer(self) -> Viewer:
        """Only on a page that asks for a login."""
        assert self._viewer is not None, "A page for anyone has no viewer."
        return self._viewer

    @property
    def is_logged_in(self) -> bool:
        return self._viewer is not None

    @property
    def address(self) -> str:
        return self.request.client.host if self.request.client else ""

    async def form(self) -> dict[str, str]:
        """The fields of a posted form, without spaces around them; passwords are to be taken from `request.form()`."""
        return {name: value.strip() for name, value in (await self.request.form()).items() if isinstance(value, str)}

    def url(self, **changes: Any) -> str:
        """This page with other values in its query; None removes one. Templates have it as `here(...)`."""
        kept = [(name, value) for name, value in self.request.query_params.multi_items() if name not in changes]
        added = [(name, str(value)) for name, value in changes.items() if value is not None and value != ""]
        query = "&".join(f"{quote(name)}={quote(value, safe='/:,')}" for name, value in [*kept, *added])
        return f"{self.request.url.path}?{query}" if query else self.request.url.path

    def render(
        self, template: str, *, status: int = 200, form_targets: Sequence[str] = (), **context: Any
    ) -> HTMLResponse:
        notice = unquote(self.cookies.get(self.request, "notice") or "")
        response = pages.render(template, {**self._shared(notice), **context}, status, form_targets)
        if notice:
            self.cookies.delete(response, "notice")
        return response

    def redirect(self, path: str, notice: str = "") -> Response:
        """After a form has done its work. `notice`: a sentence that the next page shows, once."""
        response = RedirectResponse(path, 303, {"Cache-Control": "no-store"})
        if notice:
            self.cookies.set(response, "notice", quote(notice), max_age=60)
        return response

    def _shared(self, notice: str) -> dict[str, Any]:
        theme = self.request.cookies.get("theme")
        return {
            "view": self,
            "viewer": self._viewer,
            "csrf": self._viewer.csrf if self._viewer else "",
            "theme": theme if theme in _THEMES else "",
            "areas": navigation.areas(self._viewer is not None and self._viewer.is_admin, self.request.url.path),
            "here": self.url,
            "notice": notice,
        }


async def _view(request: Request) -> View:
    # The gate has put it there.
    return request.state.view


#: What every page's function takes.
Page = Annotated[View, Depends(_view)]
