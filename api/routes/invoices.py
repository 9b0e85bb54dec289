"""Invoices: an account reads its own; an admin of the server reads all, and corrects them by credit notes."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import Row

from api.access import needs
from api.dependencies import Caller, NewId, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.invoices import (
    CreditNoteRequest,
    InvoiceResponse,
    ProfileRequest,
    ProfileResponse,
    WholeInvoiceResponse,
)
from api.state import State
from api.whose import Whose, WhoseOrAll, admin
from core.clock import rfc3339
from core.database import Transaction
from core.errors import Forbidden, Unavailable
from core.invoices import billing_profiles, credit_notes, invoices
from core.invoices.billing_profiles import TAX_TERMS, Profile
from core.money.pricing import dollars
from core.people import accounts
from core.people.tokens import Scope
from core.settings import Settings

router = APIRouter(prefix="/billing", tags=["billing"], route_class=Route)

_PDF, _CSV = "application/pdf", "text/csv"


def _file(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What a route answers, for the OpenAPI document."""
    answer = {"description": description, "content": {media_type: {"schema": schema}}}
    return {"response_class": Response, "responses": {200: answer}}


# --- invoices ---------------------------------------------------------------------------------------------------------


@router.get("/invoices", operation_id="billing.invoices.list", response_model=Page[InvoiceResponse])
@needs(Scope.BILLING)
async def list_invoices(request: Request, state: StateDep, tx: Reading, account: WhoseOrAll, cursor: Cursor) -> Json:
    """List invoices and credit notes, newest first: the account's own; for an admin of the server, by default all."""
    rows = await invoices.list_page(tx, account and account.id, PAGE_SIZE + 1, cursor)
    results = [_shown(state.settings, row) for row in rows[:PAGE_SIZE]]
    return Json(page(state.settings, request, rows, PAGE_SIZE, results))


# Before the one below, to which `x.pdf` would be an id.
@router.get(
    "/invoices/{invoice_id}.pdf",
    operation_id="billing.invoices.pdf",
    **_file("The invoice as it is sent.", _PDF, {"type": "string", "contentMediaType": _PDF}),
)
@needs(Scope.BILLING)
async def get_pdf(invoice_id: str, state: StateDep, caller: Caller, tx: Reading) -> Response:
    """Get an invoice as a PDF, always the same one."""
    row = await _visible(state, tx, caller, invoice_id)
    if row.pdf is None:
        raise Unavailable(f"The PDF of {row.number} is being made; try again in a moment.")
    return _download(await state.resources.files.read(row.pdf), row, _PDF)


@router.get(
    "/invoices/{invoice_id}.csv",
    operation_id="billing.invoices.csv",
    **_file("A table whose amounts add up to the total.", _CSV, {"type": "string"}),
)
@needs(Scope.BILLING)
async def get_csv(invoice_id: str, state: StateDep, caller: Caller, tx: Reading) -> Response:
    """Get the lines of an invoice as CSV, with its rounding and tax, all amounts exact."""
    row = await _visible(state, tx, caller, invoice_id)
    return _download(invoices.csv_text(row.document), row, _CSV)


@router.get("/invoices/{invoice_id}", operation_id="billing.invoices.get", response_model=WholeInvoiceResponse)
@needs(Scope.BILLING)
async def get(invoice_id: str, state: StateDep, caller: Caller, tx: Reading) -> Json:
    """Get an invoice with all that stands on it, and what corrects it."""
    row = await _visible(state, tx, caller, invoice_id)
    notes = await invoices.credit_notes_of(tx, row.id)
    return Json(_whole(state.settings, row, notes))


@router.post(
    "/invoices/{invoice_id}/credit-notes",
    status_code=201,
    operation_id="billing.invoices.credit",
    response_model=WholeInvoiceResponse,
)
@needs(Scope.ADMIN, creates=True)
async def create_credit_note(
    invoice_id: str, body: CreditNoteRequest, state: StateDep, caller: Caller, new_id: NewId, tx: Tx
) -> Json:
    """Correct an invoice by a credit note, as an admin of the server. It moves no money: refund charges for that."""
    admin(caller)
    row = await credit_notes.issue(
        tx, state.settings, invoice_id, id=new_id, reason=body.reason, amount_nanos=body.amount
    )
    return Json(_whole(state.settings, row, ()), 201)


async def _visible(state: State, tx: Transaction, caller: Row, invoice_id: str) -> Row:
    """Raises `NotFound`, also for one of somebody else's."""
    row = await invoices.get(tx, invoice_id, None if caller.is_admin else caller.id)
    if row.account_id != caller.id:
        await state.views.note(caller.id, await accounts.get(tx, row.account_id))
    return row


def _download(content: bytes | str, row: Row, media_type: str) -> Response:
    name = f"{row.number}.{'pdf' if media_type == _PDF else 'csv'}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
    return Response(content, headers=headers, media_type=media_type)


# --- the buyer --------------------------------------------------------------------------------------------------------


@router.get("/profile", operation_id="billing.profile.get", response_model=ProfileResponse)
@needs(Scope.BILLING)
async def get_profile(tx: Reading, account: Whose) -> Json:
    """Get what stands on the account's invoices."""
    return Json(_profile(account, await billing_profiles.get(tx, account.id)))


@router.put("/profile", operation_id="billing.profile.update", response_model=ProfileResponse)
@needs(Scope.BILLING)
async def put_profile(body: ProfileRequest, caller: Caller, tx: Tx, account: Whose) -> Json:
    """Set what stands on the account's invoices from the next one on. Its tax is set by an admin of the server."""
    before = await billing_profiles.get(tx, account.id)
    given = body.model_dump()
    terms = {name: getattr(before, name) if given[name] is None else given[name] for name in TAX_TERMS}
    if not caller.is_admin and any(getattr(before, name) != value for name, value in terms.items()):
        raise Forbidden("The tax of an account is set by an admin of this server.")
    return Json(_profile(account, await billing_profiles.put(tx, account.id, Profile(**{**given, **terms}))))


# --- how rows are shown -----------------------------------------------------------------------------------------------


def _shown(settings: Settings, row: Row) -> dict[str, Any]:
    url = f"{settings.url}/v1/billing/invoices/{row.id}"
    due = row.document.get("due_nanos", 0)
    amounts = {"subtotal": row.subtotal_nanos, "tax": row.tax_nanos, "total": row.total_nanos, "due": due}
    shown = {
        "id": row.id,
        "kind": row.kind,
        "number": row.number,
        "account": row.document["buyer"]["username"],
        "corrects": row.corrects_id,
        "month": f"{row.month:%Y-%m}",
        "period_start": rfc3339(row.period_start),
        "period_end": rfc3339(row.period_end),
        "issued_at": rfc3339(row.issued_at),
    }
    for name, nanos in amounts.items():
        shown |= {f"{name}_nanos": nanos, name: dollars(nanos)}
    return {**shown, "urls": {"get": url, "pdf": f"{url}.pdf", "csv": f"{url}.csv"}}


def _whole(settings: Settings, row: Row, notes: Any) -> dict[str, Any]:
    corrections = [_shown(settings, note) for note in notes]
    return {**_shown(settings, row), "document": row.document, "credit_notes": corrections}


def _profile(account: Row, profile: Profile) -> dict[str, Any]:
    return {"account": account.username, **profile.as_dict()}
