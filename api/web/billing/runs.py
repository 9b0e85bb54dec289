"""Usage records: what ran or stood ready, one by one, and of each why it costs what it costs."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.dependencies import Reading, StateDep
from api.state import State
from api.web.access import page
from api.web.billing import csvs
from api.web.billing.labels import chosen, labels
from api.web.billing.options import options
from api.web.billing.paging import After, following
from api.web.billing.place import Here, Place
from api.web.billing.sums import sums
from api.web.billing.why import sentence
from api.web.gate import PageRoute
from api.web.views import Page
from core.database import Transaction
from core.reports import records, usage
from core.usage.exports import amount

router = APIRouter(route_class=PageRoute)


@router.get("/runs")
@page()
async def show(view: Page, place: Here, tx: Reading, state: StateDep, after: After) -> Response:
    found = await records.page(tx, place.filter, after, records.PAGE_SIZE + 1)
    rows = found[: records.PAGE_SIZE]
    return view.render(
        "billing/runs.html",
        place=place,
        rows=rows,
        given=await records.given_back(tx, rows),
        tokens=await labels(tx, "token", {row.token_id for row in rows if row.token_id}),
        chosen=await chosen(tx, place),
        options=await options(tx, place),
        total=await _total(state, tx, place),
        is_first=after is None,
        cursor=following(found, records.PAGE_SIZE, "ended_at"),
    )


async def _total(state: State, tx: Transaction, place: Place) -> object | None:
    """Of all pages together; None where the roll-ups cannot tell, because of a tag."""
    return None if place.filter.unanswerable else await sums(state, tx, usage.totals, place.filter)


@router.get("/runs.csv")
@page()
async def download(place: Here, state: StateDep) -> Response:
    columns: csvs.Columns = {
        "id": lambda row: row.id,
        "ended_at": lambda row: row.ended_at,
        "started_at": lambda row: row.started_at,
        "account": lambda row: row.account_name,
        "model": lambda row: row.model,
        "version": lambda row: row.version_id,
        "deployment": lambda row: row.deployment,
        "hardware": lambda row: row.hardware_sku,
        "token": lambda row: row.token_id,
        "tags": lambda row: row.tags,
        "cause": lambda row: row.cause_kind,
        "phase": lambda row: row.phase,
        "outcome": lambda row: row.outcome,
        "failure_code": lambda row: row.failure_code,
        "seconds": lambda row: f"{row.micros // 1_000_000}.{row.micros % 1_000_000:06d}",
        "dollars_per_second": lambda row: amount(row.price_nanos_per_second),
        "amount_dollars": lambda row: amount(row.amount_nanos),
    }
    name = f"runs-{place.range.first}-{place.range.last}"
    return csvs.download(name, columns, records.stream(state.database, place.filter))


@router.get("/why")
@page()
async def find(view: Page, place: Here, tx: Reading, id: Annotated[str, Query()] = "") -> Response:
    """From the id of a prediction, or a usage record, to its page."""
    if not id.strip():
        return view.redirect(place.plain())
    found = await records.find(tx, id.strip(), place.own_id)
    return view.redirect(f"{place.plain('runs')}/{found}")


@router.get("/runs/{record_id:path}")
@page()
async def why(view: Page, place: Here, tx: Reading, record_id: str) -> Response:
    found = await records.explain(tx, record_id, place.own_id)
    return view.render("billing/why.html", place=place, e=found, r=found.record, sentence=sentence(found))
