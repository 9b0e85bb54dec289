"""Whether the books agree: a quick look on every page, and the proof of every promise on demand.

The proof reads everything, which takes minutes on a large installation; what it found is kept, to be shown until the
next one. `millrace billing reconcile` makes the same from a shell.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter, Response
from redis.exceptions import RedisError

from api.dependencies import Reading, StateDep
from api.state import State
from api.web.access import page
from api.web.billing.place import ADMIN, Here
from api.web.gate import PageRoute
from api.web.views import Page
from core.clock import monotonic, now
from core.log import get_logger
from core.money import reconciliation
from core.money.reconciliation import Difference
from core.people import audit
from core.redis import LAST_PROOF
from core.reports import books

log = get_logger()
router = APIRouter(prefix="/books", route_class=PageRoute)

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Proof:
    at: datetime
    seconds: float
    promises: int
    broken: dict[str, dict[str, Any]]
    """By the name of the promise: `count`, and the first `rows` as sentences."""


async def last_proof(state: State) -> Proof | None:
    """What the last one found; None: there was none, or it is forgotten."""
    try:
        kept = await state.resources.redis.get(LAST_PROOF)
    except (RedisError, OSError) as error:
        log.warning("last proof not read", error=str(error))
        return None
    if kept is None:
        return None
    found = orjson.loads(kept)
    return Proof(datetime.fromisoformat(found["at"]), found["seconds"], found["promises"], found["broken"])


@router.get("")
@page(admin=True)
async def show(view: Page, place: Here, tx: Reading, state: StateDep) -> Response:
    return view.render(
        "billing/books.html",
        place=place,
        quick=await books.quick(tx, now()),
        checks=reconciliation.CHECKS,
        proof=await last_proof(state),
    )


@router.post("/check")
@page(admin=True)
async def check(view: Page, state: StateDep) -> Response:
    begun, at = monotonic(), now()
    async with state.database.transaction() as tx:
        found = await reconciliation.differences(tx)
    broken = {each.check.name: _shown(each) for each in found}
    promises, seconds = len(reconciliation.CHECKS), round(monotonic() - begun, 1)
    kept = {"at": at.isoformat(), "seconds": seconds, "promises": promises, "broken": broken}
    await state.resources.redis.set(LAST_PROOF, orjson.dumps(kept))
    async with state.database.transaction() as tx:
        await audit.record(tx, "books.check", "books", after={"promises": promises, "broken": sorted(broken)})
    notice = f"{len(found)} of {promises} promises do not hold." if found else f"All {promises} promises hold."
    return view.redirect(f"{ADMIN}/books", notice)


def _shown(found: Difference) -> dict[str, Any]:
    rows = [f"{row.subject}: expected {row.expected}, found {row.found}" for row in found.rows[:_SHOWN]]
    return {"count": found.count, "rows": rows}
