"""Whether the books agree: what there is in one line, and a look at every promise on demand.

The whole proof reads everything and takes minutes on a large installation, so it is made by `millrace billing
reconcile`, or here by a click, in a snapshot of its own.
"""

from fastapi import APIRouter, Response

from api.dependencies import Reading, StateDep
from api.web.access import page
from api.web.billing.place import Here
from api.web.gate import PageRoute
from api.web.views import Page
from core import reconciliation
from core.clock import monotonic, now
from core.reports import books

router = APIRouter(prefix="/books", route_class=PageRoute)


@router.get("")
@page(admin=True)
async def show(view: Page, place: Here, tx: Reading) -> Response:
    return view.render(
        "billing/books.html",
        place=place,
        quick=await books.quick(tx, now()),
        checks=reconciliation.CHECKS,
        found=None,
        took="",
    )


@router.post("/check")
@page(admin=True)
async def check(view: Page, place: Here, state: StateDep) -> Response:
    begun = monotonic()
    async with state.database.transaction() as tx:
        found = await reconciliation.differences(tx)
    async with state.database.autocommit() as tx:
        quick = await books.quick(tx, now())
    return view.render(
        "billing/books.html",
        place=place,
        quick=quick,
        checks=reconciliation.CHECKS,
        found={each.check.name: each for each in found},
        took=f"{monotonic() - begun:.1f}",
    )
