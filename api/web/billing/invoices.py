"""Invoices and credit notes: listed, and as the files that were frozen when they were issued."""

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from api.dependencies import Reading, StateDep
from api.web.access import page
from api.web.billing import csvs
from api.web.billing.paging import After, following
from api.web.billing.place import Here
from api.web.gate import PageRoute
from api.web.views import Page
from core.errors import NotFound
from core.invoices import invoices
from core.reports import balances
from core.usage.exports import amount

router = APIRouter(prefix="/invoices", route_class=PageRoute)

_SIZE = 50
_PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@router.get("")
@page()
async def show(view: Page, place: Here, tx: Reading, after: After) -> Response:
    rows = await invoices.list_page(tx, place.filter.account, _SIZE + 1, after)
    shown = rows[:_SIZE]
    return view.render(
        "billing/invoices.html",
        place=place,
        rows=shown,
        names=await balances.usernames(tx, {row.account_id for row in shown}),
        accounts=await balances.suggestions(tx) if place.is_admin else [],
        cursor=following(rows, _SIZE, "created_at"),
    )


@router.get("/all.csv")
@page()
async def download(place: Here, tx: Reading) -> Response:
    rows = await invoices.list_page(tx, place.filter.account, 10_000)
    names = await balances.usernames(tx, {row.account_id for row in rows})
    columns: csvs.Columns = {
        "number": lambda row: row.number,
        "kind": lambda row: row.kind,
        "account": lambda row: names.get(row.account_id),
        "month": lambda row: row.month,
        "issued_at": lambda row: row.issued_at,
        "subtotal_dollars": lambda row: amount(row.subtotal_nanos),
        "tax_dollars": lambda row: amount(row.tax_nanos),
        "total_dollars": lambda row: amount(row.total_nanos),
    }
    return csvs.download("invoices", columns, csvs.at_once(rows))


@router.get("/{invoice_id}.pdf")
@page()
async def pdf(place: Here, tx: Reading, state: StateDep, invoice_id: str) -> Response:
    row = await invoices.get(tx, invoice_id, place.own_id)
    if row.pdf is None:
        raise NotFound("This PDF is being made. It is here in a minute or two.")
    content = await state.resources.files.stream(row.pdf)
    headers = {**_PRIVATE, "Content-Disposition": f'inline; filename="{row.number}.pdf"'}
    return StreamingResponse(content, media_type="application/pdf", headers=headers)


@router.get("/{invoice_id}.csv")
@page()
async def csv(place: Here, tx: Reading, invoice_id: str) -> Response:
    row = await invoices.get(tx, invoice_id, place.own_id)
    headers = {**_PRIVATE, "Content-Disposition": f'attachment; filename="{row.number}.csv"'}
    return Response(invoices.csv_text(row.document), media_type="text/csv; charset=utf-8", headers=headers)
