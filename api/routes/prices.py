"""Prices: what the caller pays now, and for an admin of the server the whole price book, to read and to add to."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Row

from api.access import needs
from api.dependencies import Caller, NewId, Reading, Tx
from api.gate import Route
from api.responses import Json
from api.schemas.prices import PriceRequest, PriceResponse, StandingPriceResponse
from api.whose import Whose, admin, named
from core.clock import rfc3339
from core.database import Transaction
from core.money import book, prices
from core.money.pricing import dollars
from core.people.tokens import Scope
from core.usage import usage

router = APIRouter(prefix="/prices", tags=["prices"], route_class=Route)


@router.get("", operation_id="prices.list", response_model=list[StandingPriceResponse])
@needs(Scope.BILLING)
async def list_prices(tx: Reading, account: Whose) -> Json:
    """List what the account pays now: for a second of each hardware, and for what models make."""
    return Json([_standing(row) for row in await book.standing(tx, account.id)])


@router.get("/book", operation_id="prices.book.list", response_model=list[PriceResponse])
@needs(Scope.ADMIN)
async def list_book(
    caller: Caller,
    tx: Reading,
    kind: Annotated[str | None, Query(max_length=100)] = None,
    subject: Annotated[str | None, Query(max_length=200)] = None,
) -> Json:
    """List every price there is, was and will be, and what hardware costs; the latest of each first."""
    admin(caller)
    return Json(await _shown(tx, await prices.book(tx, kind, subject)))


@router.post("", operation_id="prices.create", status_code=201, response_model=PriceResponse)
@needs(Scope.ADMIN, creates=True)
async def create_price(body: PriceRequest, caller: Caller, new_id: NewId, tx: Tx) -> Json:
    """Set a price, from now on or from a moment to come. What has started keeps its own."""
    admin(caller)
    row = await book.find(tx, new_id) or await prices.put(
        tx,
        id=new_id,
        kind=body.kind,
        subject=body.subject,
        metric=body.metric or (prices.HOUR if body.kind == prices.COST else prices.SECOND),
        nanos_per_unit=body.price,
        account_id=None if body.account is None else (await named(tx, body.account)).id,
        free_units=body.free_units,
        steps=[{"above": step.above, "nanos_per_unit": step.price} for step in body.steps],
        effective_from=body.effective_from,
        created_by=caller.username,
        reason=body.reason,
    )
    [shown] = await _shown(tx, [row])
    return Json(shown, 201)


def _standing(row: Row) -> dict[str, Any]:
    return {**_price(row), "is_own": row.account_id is not None}


async def _shown(tx: Transaction, rows: Any) -> list[dict[str, Any]]:
    names = await usage.usernames(tx, [row.account_id for row in rows if row.account_id])
    return [
        {
            **_price(row),
            "account": names.get(row.account_id),
            "created_by": row.created_by,
            "created_at": rfc3339(row.created_at),
            "reason": row.reason,
        }
        for row in rows
    ]


def _price(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "subject": row.subject,
        "metric": row.metric,
        "nanos_per_unit": row.nanos_per_unit,
        "price": None if row.nanos_per_unit is None else dollars(row.nanos_per_unit),
        "free_units": row.free_units,
        "steps": [{**step, "price": dollars(step["nanos_per_unit"])} for step in row.steps],
        "effective_from": rfc3339(row.effective_from),
    }
