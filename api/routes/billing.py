"""Money: an account reads its own and sets its limits; an admin of the server moves money and sets terms, by hand.

What an admin does has an id of its own, so that the same request again, after an answer that was lost, does nothing.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Row

from api import csv
from api.access import needs
from api.dependencies import Caller, NewId, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.billing import (
    AdjustmentRequest,
    AlertResponse,
    CreditRequest,
    CreditResponse,
    LedgerEntryResponse,
    LimitRequest,
    LimitResponse,
    RefundRequest,
    TermsRequest,
    TermsResponse,
    WalletResponse,
    WebhookRequest,
    WebhookResponse,
)
from api.schemas.common import Page
from api.schemas.moments import Moment
from api.whose import Whose, admin, named
from core.clock import rfc3339
from core.database import Transaction
from core.errors import NotFound, ValidationFailed
from core.money import alerts, by_hand, credits, entries, limits, refunds, wallets
from core.money.entries import Filter
from core.money.ledger import Kind
from core.money.pricing import dollars
from core.people import accounts, tokens
from core.people.tokens import Scope
from core.usage import exports

router = APIRouter(prefix="/billing", tags=["billing"], route_class=Route)


# --- what an account has ----------------------------------------------------------------------------------------------


@router.get("/wallet", operation_id="billing.wallet.get", response_model=WalletResponse)
@needs(Scope.BILLING)
async def get_wallet(tx: Reading, account: Whose) -> Json:
    """Get what the account has, what is held of it, how it pays, and what it has not been told yet."""
    wallet = await wallets.get(tx, account.id)
    # Read anew: the caller may be remembered from before.
    owner = await accounts.get(tx, account.id)
    return Json(
        {
            "account": owner.username,
            **_amounts(wallet, "balance", "held", "spendable"),
            "terms": _terms(wallet),
            "webhook": owner.billing_webhook_url,
            "alerts": [_alert(row) for row in await alerts.unseen(tx, account.id)],
        }
    )


@router.get("/credits", operation_id="billing.credits.list", response_model=list[CreditResponse])
@needs(Scope.BILLING)
async def list_credits(tx: Reading, account: Whose) -> Json:
    """List what was put into the wallet, piece by piece, and what is left of each: the latest 200, newest first."""
    return Json([_credit(row, account.username) for row in await credits.of_account(tx, account.id)])


LedgerKind = Annotated[Kind | None, Query(description="Only what was moved for this reason.")]


@router.get("/ledger", operation_id="billing.ledger.list", response_model=Page[LedgerEntryResponse])
@needs(Scope.BILLING)
async def list_ledger(
    request: Request,
    state: StateDep,
    tx: Reading,
    account: Whose,
    cursor: Cursor,
    kind: LedgerKind = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> Json:
    """List every movement of the account's money and what it was about, newest first."""
    rows = await entries.page(tx, Filter(account.id, kind, since, until), PAGE_SIZE + 1, cursor)
    return Json(page(state.settings, request, rows, PAGE_SIZE, [_entry(row) for row in rows[:PAGE_SIZE]]))


@router.get("/ledger.csv", operation_id="billing.ledger.export", **csv.DOCUMENTED)
@needs(Scope.BILLING)
async def export_ledger(
    state: StateDep,
    account: Whose,
    kind: LedgerKind = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> StreamingResponse:
    """Export the same as CSV, all of it, the oldest first."""
    batches = entries.stream(state.database, Filter(account.id, kind, since, until))
    return csv.download("ledger", exports.LEDGER_COLUMNS, batches, exports.ledger_row)


# --- what an admin moves ----------------------------------------------------------------------------------------------


@router.post("/credits", operation_id="billing.credits.create", status_code=201, response_model=CreditResponse)
@needs(Scope.ADMIN, creates=True)
async def create_credit(body: CreditRequest, caller: Caller, new_id: NewId, tx: Tx) -> Json:
    """Put money into an account's wallet: paid outside of this server, or given."""
    admin(caller)
    account = await named(tx, body.account)
    row = await by_hand.give(
        tx,
        account.id,
        id=new_id,
        kind=body.kind,
        amount_nanos=body.amount,
        reason=body.reason,
        actor=caller.username,
        priority=body.priority,
        expires_at=body.expires_at,
    )
    return Json(_credit(row, account.username), 201)


@router.post(
    "/adjustments", operation_id="billing.adjustments.create", status_code=201, response_model=LedgerEntryResponse
)
@needs(Scope.ADMIN, creates=True)
async def create_adjustment(body: AdjustmentRequest, caller: Caller, new_id: NewId, tx: Tx) -> Json:
    """Take money out of an account's wallet: a slip put right, or a payment that went back."""
    admin(caller)
    account = await named(tx, body.account)
    money = {"amount_nanos": body.amount, "reason": body.reason, "actor": caller.username}
    return Json(_entry(await by_hand.take(tx, account.id, id=new_id, may_owe=body.may_owe, **money)), 201)


@router.post("/refunds", operation_id="billing.refunds.create", status_code=201, response_model=LedgerEntryResponse)
@needs(Scope.ADMIN, creates=True)
async def create_refund(body: RefundRequest, caller: Caller, new_id: NewId, tx: Tx) -> Json:
    """Give back what a prediction was charged, in whole or in part, and never more than that."""
    admin(caller)
    try:
        usage = await refunds.usage_of(tx, body.prediction)
    except NotFound as error:
        raise ValidationFailed("prediction", str(error)) from None
    money = {"amount_nanos": body.amount, "reason": body.reason, "actor": caller.username}
    return Json(_entry(await by_hand.refund(tx, usage, id=f"refund:{new_id}", **money)), 201)


@router.put("/terms", operation_id="billing.terms.update", response_model=TermsResponse)
@needs(Scope.ADMIN)
async def update_terms(body: TermsRequest, caller: Caller, state: StateDep) -> Json:
    """Set how an account pays: prepaid, on credit up to a limit, or without limit."""
    admin(caller)
    async with state.database.transaction() as tx:
        account = await named(tx, body.account)
        row = await wallets.set_terms(
            tx,
            account.id,
            credit_limit_nanos=body.credit_limit,
            when_empty=body.when_empty,
            low_balance_nanos=body.low_balance,
        )
    state.forget(account.id)
    return Json(_terms(row))


# --- limits and alerts ------------------------------------------------------------------------------------------------


@router.get("/limits", operation_id="billing.limits.list", response_model=list[LimitResponse])
@needs(Scope.BILLING)
async def list_limits(tx: Reading, account: Whose) -> Json:
    """List what the account, its tokens and its models may spend in a month, and have spent."""
    return Json([_limit(row) for row in await limits.of_account(tx, account.id)])


@router.post("/limits", operation_id="billing.limits.create", status_code=201, response_model=LimitResponse)
@needs(Scope.ADMIN, creates=True)
async def create_limit(body: LimitRequest, account: Whose, new_id: NewId, tx: Tx) -> Json:
    """Limit what may be spent in a calendar month: by the account, through a token, or on a model."""
    await _check_subject(tx, account.id, body)
    before = [row for row in await limits.of_account(tx, account.id) if row.id == new_id]
    row, *_ = before or [
        await limits.put(
            tx,
            account.id,
            id=new_id,
            scope=body.scope,
            subject=body.subject,
            limit_nanos=body.limit,
            thresholds=body.thresholds,
            stops=body.stops,
        )
    ]
    return Json(_limit(row), 201)


@router.delete("/limits/{limit_id}", operation_id="billing.limits.delete", status_code=204)
@needs(Scope.ADMIN)
async def delete_limit(limit_id: str, account: Whose, tx: Tx) -> Response:
    """Remove a limit."""
    await limits.remove(tx, account.id, limit_id)
    return Response(status_code=204)


@router.get("/alerts", operation_id="billing.alerts.list", response_model=Page[AlertResponse])
@needs(Scope.BILLING)
async def list_alerts(
    request: Request,
    state: StateDep,
    tx: Reading,
    account: Whose,
    cursor: Cursor,
    seen: Annotated[bool | None, Query(description="Only those that have been seen, or have not.")] = None,
) -> Json:
    """List what the account was told about its money, newest first."""
    rows = await alerts.list_page(tx, account.id, PAGE_SIZE + 1, cursor, seen)
    return Json(page(state.settings, request, rows, PAGE_SIZE, [_alert(row) for row in rows[:PAGE_SIZE]]))


@router.post("/alerts/{alert_id}/seen", operation_id="billing.alerts.see", response_model=AlertResponse)
@needs(Scope.BILLING)
async def see_alert(alert_id: str, caller: Caller, tx: Tx) -> Json:
    """Mark an alert as seen."""
    return Json(_alert(await alerts.see(tx, caller.id, alert_id)))


@router.put("/webhook", operation_id="billing.webhook.update", response_model=WebhookResponse)
@needs(Scope.ADMIN)
async def update_webhook(body: WebhookRequest, caller: Caller, tx: Tx) -> Json:
    """Have the account's alerts sent to a URL, signed like all webhooks of this server; or to none."""
    await alerts.set_webhook(tx, caller.id, body.url)
    return Json({"url": body.url})


async def _check_subject(tx: Transaction, account_id: str, body: LimitRequest) -> None:
    """Raises `ValidationFailed`."""
    if body.scope == limits.TOKEN:
        try:
            await tokens.get(tx, account_id, body.subject)
        except NotFound:
            raise ValidationFailed("subject", f"The account has no token with the id {body.subject!r}.") from None
    elif body.scope == limits.MODEL and not all(body.subject.partition("/")):
        raise ValidationFailed("subject", "Name the model as `owner/name`.")


# --- how rows are shown -----------------------------------------------------------------------------------------------


def _amounts(row: Row, *names: str) -> dict[str, Any]:
    """Each as `<name>_nanos`, and in dollars."""
    shown: dict[str, Any] = {}
    for name in names:
        nanos = getattr(row, f"{name}_nanos")
        shown[f"{name}_nanos"] = None if nanos is None else int(nanos)
        shown[name] = None if nanos is None else dollars(int(nanos))
    return shown


def _terms(wallet: Row) -> dict[str, Any]:
    return {**_amounts(wallet, "credit_limit", "low_balance"), "when_empty": wallet.when_empty}


def _credit(row: Row, username: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "account": username,
        "kind": row.kind,
        **_amounts(row, "amount", "remaining", "expired"),
        "priority": row.priority,
        "expires_at": rfc3339(row.expires_at),
        "reason": row.reason,
        "actor": row.actor,
        "created_at": rfc3339(row.created_at),
    }


def _entry(row: Row) -> dict[str, Any]:
    about = entries.refers_to(row)
    return {
        "id": row.id,
        "transaction": row.transaction_id,
        "kind": row.kind,
        **_amounts(row, "amount"),
        "counterpart": row.counterpart,
        "about": None if about is None else {"type": about[0], "id": about[1]},
        "corrects": row.corrects,
        "actor": row.actor,
        "reason": row.reason,
        "created_at": rfc3339(row.created_at),
    }


def _limit(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "scope": row.scope,
        "subject": row.subject,
        **_amounts(row, "limit", "spent"),
        "thresholds": row.thresholds,
        "stops": row.stops,
        "created_at": rfc3339(row.created_at),
    }


def _alert(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "message": row.message,
        "details": row.details,
        "created_at": rfc3339(row.created_at),
        "seen_at": rfc3339(row.seen_at),
    }
