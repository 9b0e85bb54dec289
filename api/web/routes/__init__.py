"""Thin, as the routes of the api: read, one verb, render. Each router adds its line here."""

from fastapi import APIRouter

from api.web.billing import router as billing
from api.web.routes import home, login, settings

web = APIRouter(include_in_schema=False)
for module in (home, login, settings):
    web.include_router(module.router)
web.include_router(billing.router)
