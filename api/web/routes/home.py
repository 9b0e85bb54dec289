"""The front door: to one's own pages, or to logging in. For a program there is nothing here."""

from fastapi import APIRouter, Response

from api.web.access import page
from api.web.errors import wants_page
from api.web.gate import PageRoute
from api.web.views import Page
from core.errors import NotFound

HOME = "/account/billing"

router = APIRouter(route_class=PageRoute)


@router.get("/")
@page(anyone=True)
async def home(view: Page) -> Response:
    if not wants_page(view.request):
        raise NotFound("There is nothing at /.")
    return view.redirect(HOME if view.is_logged_in else "/login")
