"""Paying by card: top-ups, the saved method, when it recharges by itself, and what the provider tells us.

Whoever sets money moving needs `admin`: a token that only reads the bill (`billing`) or changes models (`write`) may be
in a dashboard or a pipeline, and must not be worth a card.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from sqlalchemy import Row

from api.access import anyone, needs
from api.dependencies import Caller, NewId, Reading, StateDep, Tx
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.payments import (
    NewTopUpResponse,
    PaymentMethodResponse,
    RechargeRequest,
    TopUpRequest,
    TopUpResponse,
)
from core.clock import rfc3339
from core.errors import Conflict, TooLarge, Unavailable
from core.money.pricing import dollars, nanos
from core.payments import paying, payment_methods, payments
from core.payments.payments import PaymentProvider
from core.people.tokens import Scope

router = APIRouter(prefix="/billing", tags=["billing"], route_class=Route)

_OFF = "This server takes no card payments: its operator has set no MILLRACE_STRIPE_SECRET_KEY."
#: The largest of Stripe's events have some 100 kB.
_EVENT_BYTES = 512 * 1024
#: Dollars are kept to the nanodollar, and cards pay whole cents.
_BEYOND_CENTS = 7


async def _provider(state: StateDep) -> PaymentProvider:
    if state.payments is None:
        raise Conflict(f"{_OFF} Ask the administrator to top up by hand.")
    return state.payments


Provider = Annotated[PaymentProvider, Depends(_provider)]


@router.post("/top-ups", operation_id="billing.topups.create", status_code=201, response_model=NewTopUpResponse)
@needs(Scope.ADMIN, creates=True)
async def create(body: TopUpRequest, state: StateDep, caller: Caller, new_id: NewId, provider: Provider) -> Json:
    """Start a top-up, which is paid by card on the page whose URL is answered; the card is saved by that."""
    pages = [f"{state.settings.url}{path}" for path in (body.success_path, body.cancel_path)]
    row, url = await paying.checkout(state.database, provider, caller, new_id, body.nanos, *pages)
    return Json({**_top_up(row), "url": url}, 201)


@router.get("/top-ups", operation_id="billing.topups.list", response_model=Page[TopUpResponse])
@needs(Scope.BILLING)
async def list_top_ups(request: Request, state: StateDep, caller: Caller, tx: Reading, cursor: Cursor) -> Json:
    """List the top-ups by card, newest first, with those that failed or expired."""
    rows = await payments.list_page(tx, caller.id, cursor, PAGE_SIZE + 1)
    return Json(page(state.settings, request, rows, PAGE_SIZE, [_top_up(row) for row in rows[:PAGE_SIZE]]))


@router.get("/top-ups/{top_up_id}", operation_id="billing.topups.get", response_model=TopUpResponse)
@needs(Scope.BILLING)
async def get(top_up_id: str, caller: Caller, tx: Reading) -> Json:
    """Get a top-up. Once it has succeeded, its amount is in the wallet."""
    return Json(_top_up(await payments.get(tx, caller.id, top_up_id)))


@router.get("/payment-method", operation_id="billing.method.get", response_model=PaymentMethodResponse)
@needs(Scope.BILLING)
async def get_method(caller: Caller, tx: Reading) -> Json:
    """Get the saved payment method, and when it recharges by itself."""
    return Json(_method(await payment_methods.get(tx, caller.id)))


@router.delete("/payment-method", operation_id="billing.method.delete", status_code=204)
@needs(Scope.ADMIN)
async def delete_method(state: StateDep, caller: Caller, provider: Provider) -> Response:
    """Forget the saved payment method, here and at the provider; nothing is charged by itself any more."""
    await paying.forget(state.database, provider, caller.id)
    return Response(status_code=204)


@router.put(
    "/payment-method/recharge",
    operation_id="billing.method.recharge.update",
    response_model=PaymentMethodResponse,
)
@needs(Scope.ADMIN)
async def set_recharge(body: RechargeRequest, caller: Caller, _: Provider, tx: Tx) -> Json:
    """Charge the saved method by itself whenever less than `recharge_below` is left, up to `recharge_to`."""
    bounds = (nanos(body.recharge_below), nanos(body.recharge_to))
    return Json(_method(await payment_methods.set_recharge(tx, caller.id, *bounds)))


@router.delete("/payment-method/recharge", operation_id="billing.method.recharge.delete", status_code=204)
@needs(Scope.ADMIN)
async def stop_recharge(caller: Caller, tx: Tx) -> Response:
    """Charge nothing by itself any more; the method stays saved."""
    await payment_methods.stop_recharge(tx, caller.id)
    return Response(status_code=204)


@router.post("/events/stripe", operation_id="billing.events.stripe", status_code=204, include_in_schema=False)
@anyone
async def hear(request: Request, state: StateDep, stripe_signature: Annotated[str | None, Header()] = None) -> Response:
    """What Stripe tells us. Its signature is the permission; without an answer of ours, it tells us again for days."""
    if state.payments is None:
        raise Unavailable(_OFF)
    told = state.payments.read(await _bounded(request), stripe_signature)
    await paying.hear(state.database, state.payments, told)
    return Response(status_code=204)


async def _bounded(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _EVENT_BYTES:
            raise TooLarge(f"An event has at most {_EVENT_BYTES} bytes.")
    return bytes(body)


def _top_up(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "status": row.status,
        "amount": _cents(row.amount_nanos),
        "amount_nanos": row.amount_nanos,
        "provider": row.provider,
        "failure": row.failure,
        "created_at": rfc3339(row.created_at),
        "completed_at": rfc3339(row.completed_at),
    }


def _method(row: Row | None) -> dict[str, Any]:
    if row is None:
        return dict.fromkeys(PaymentMethodResponse.model_fields)
    return {
        "provider": row.provider,
        "label": row.label,
        "recharge_below": row.recharge_below_nanos and _cents(row.recharge_below_nanos),
        "recharge_to": row.recharge_to_nanos and _cents(row.recharge_to_nanos),
        "paused_until": rfc3339(row.paused_until),
    }


def _cents(amount_nanos: int) -> str:
    return dollars(amount_nanos)[:-_BEYOND_CENTS]
