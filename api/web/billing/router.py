"""Every billing page at its place. What both have is declared once and mounted twice; `place.py` tells them apart."""

from fastapi import APIRouter

from api.web.billing import (
    accounts,
    actions,
    books,
    idle,
    invoices,
    limits,
    money,
    overview,
    prices,
    profile,
    runs,
    usage,
    wallet,
)
from api.web.billing.place import ACCOUNT, ADMIN

_SHARED = (overview, usage, runs, idle, money, invoices, prices)
_OF_ADMIN = (
    accounts.router,
    actions.router,
    actions.runs,
    books.router,
    idle.admin,
    prices.admin,
    profile.admin,
)
_OF_ACCOUNT = (wallet.router, limits.router, profile.router)

router = APIRouter(include_in_schema=False)
for place, own in ((ADMIN, _OF_ADMIN), (ACCOUNT, _OF_ACCOUNT)):
    for each in (*(module.router for module in _SHARED), *own):
        router.include_router(each, prefix=place)
