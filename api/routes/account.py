"""The calling account, its use, and the Hardware it may pick."""

from typing import Annotated

from fastapi import APIRouter, Query

from api.access import needs
from api.dependencies import Caller, Reading
from api.gate import Route
from api.responses import Json
from api.schemas.account import AccountResponse, HardwareResponse, UsageResponse
from core import catalog
from core.clock import now
from core.money import wallets
from core.money.pricing import MICROS_PER_SECOND, dollars
from core.people.tokens import Scope
from core.usage import metering, usage

router = APIRouter(tags=["account"], route_class=Route)


@router.get("/account", operation_id="account.get", response_model=AccountResponse)
@needs(Scope.READ)
async def get_account(caller: Caller) -> Json:
    """Get the account that the token speaks for."""
    return Json(
        {
            "type": caller.type,
            "username": caller.username,
            "name": caller.name,
            "github_url": caller.github_url,
            "avatar_url": caller.avatar_url,
        }
    )


@router.get("/account/usage", operation_id="account.usage.get", response_model=UsageResponse)
@needs(Scope.BILLING)
async def get_usage(caller: Caller, tx: Reading, days: Annotated[int, Query(ge=1, le=366)] = 30) -> Json:
    """Get what the account has used and owes, by day (UTC), Model and Hardware."""
    first, last = metering.last_days(now().date(), days)
    rows = await usage.summary(tx, caller.id, first, last)
    total = sum(row["amount_nanos"] for row in rows)
    return Json(
        {
            "from": first,
            "to": last,
            "total_nanos": total,
            "total": dollars(total),
            "balance_nanos": int((await wallets.get(tx, caller.id)).balance_nanos),
            "results": [
                {
                    "day": row["day"],
                    "model": row["model"],
                    "hardware": row["hardware_sku"],
                    "runs": row["runs"],
                    "seconds": row["micros"] / MICROS_PER_SECOND,
                    "amount_nanos": row["amount_nanos"],
                    "amount": dollars(row["amount_nanos"]),
                }
                for row in rows
            ],
        }
    )


@router.get("/hardware", operation_id="hardware.list", response_model=list[HardwareResponse])
@needs(Scope.READ)
async def list_hardware(caller: Caller, tx: Reading) -> Json:
    """List the Hardware that Models may run on."""
    return Json([{"sku": row.sku, "name": row.name} for row in await catalog.list_hardware(tx)])
