"""What was used: sums, the records behind them, and both as tables. One's own; for admins of the server everybody's."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from sqlalchemy import Row

from api import csv
from api.access import needs
from api.dependencies import Caller, Reading, StateDep
from api.gate import Route
from api.pagination import PAGE_SIZE, Cursor, page
from api.responses import Json
from api.schemas.common import Page
from api.schemas.usage import Since, Until, UsageRecordResponse, UsageSumsResponse
from api.whose import WhoseOrAll
from core.clock import now, rfc3339
from core.errors import Invalid
from core.money.pricing import MICROS_PER_SECOND, dollars, nanos
from core.people.tokens import Scope
from core.usage import exports, focus, usage, usage_records
from core.usage.metering import PREDICTION
from core.usage.tags import MOST_TAGS
from core.usage.usage import Grain, Question
from core.usage.usage_records import Filter

router = APIRouter(prefix="/usage", tags=["usage"], route_class=Route)

_DEFAULT_DAYS = 30
_MOST_FOCUS_DAYS = 366
_DAY = timedelta(days=1)

Text = Annotated[str | None, Query(max_length=300)]
Tag = Annotated[str | None, Query(max_length=300, description="Only what carries this tag: `team=vision`.")]


async def _range(
    since: Annotated[Since | None, Query(alias="from", description="A day, or a moment. Default: 30 days.")] = None,
    to: Annotated[Until | None, Query(description="A day, which is included, or a moment, which is not.")] = None,
) -> tuple[datetime, datetime]:
    tomorrow = now().replace(hour=0, minute=0, second=0, microsecond=0) + _DAY
    until = to or tomorrow
    try:
        return since or until - _DEFAULT_DAYS * _DAY, until
    except OverflowError:
        raise Invalid("`to` is before all time.") from None


Range = Annotated[tuple[datetime, datetime], Depends(_range)]


async def _question(
    range: Range,
    account: WhoseOrAll,
    by: Grain | None = None,
    group: Annotated[
        str,
        Query(
            max_length=500,
            description="Keys with commas between them: account, model, version, deployment, hardware, token, phase, "
            "outcome, tag:<name>.",
        ),
    ] = "",
    model: Text = None,
    version: Text = None,
    deployment: Text = None,
    hardware: Text = None,
    token: Text = None,
    phase: Text = None,
    outcome: Text = None,
    tag: Tag = None,
) -> Question:
    """Raises `Invalid`."""
    names = list(dict.fromkeys(name.strip() for name in group.split(",") if name.strip()))
    tags = [name.removeprefix("tag:") for name in names if name.startswith("tag:")]
    keys = [name for name in names if not name.startswith("tag:")]
    if unknown := [name for name in keys if name not in usage.KEYS]:
        raise Invalid(f"Usage is not summed by {unknown[0]!r}: choose of {', '.join(usage.KEYS)} and tag:<name>.")
    if len(tags) > 1:
        raise Invalid(f"Group by one tag at a time; a record may carry {MOST_TAGS}, and would be counted for each.")
    asked = {
        "model": model,
        "version": version,
        "deployment": deployment,
        "hardware": hardware,
        "token": token,
        "phase": phase,
        "outcome": outcome,
    }
    return Question(
        *range,
        by,
        keys,
        {name: value for name, value in asked.items() if value is not None},
        tags[0] if tags else None,
        _tag(tag),
        None if account is None else account.id,
    )


def _tag(text: str | None) -> tuple[str, str] | None:
    """Raises `Invalid`."""
    if text is None:
        return None
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise Invalid("Write a tag as `tag=team=vision`: its name, and its value.")
    return name, value


@router.get("", operation_id="usage.get", response_model=UsageSumsResponse, response_model_by_alias=True)
@needs(Scope.BILLING)
async def get_usage(caller: Caller, tx: Reading, question: Annotated[Question, Depends(_question)]) -> Json:
    """Get what was used and charged, summed up by hour, day or month and by any keys."""
    rows = await usage.sums(tx, question)
    fresh = await usage.freshness(tx, question.account_id)
    names = await usage.usernames(tx, [row.account_id for row in rows]) if "account" in question.group else {}
    total = sum(row.amount_nanos for row in rows)
    return Json(
        {
            "from": rfc3339(question.since),
            "to": rfc3339(question.until),
            "total_nanos": total,
            "total": dollars(total),
            "freshness": {"folded_until": rfc3339(fresh.folded_until), "pending": fresh.pending},
            "results": [_sum(row, question, names, caller.is_admin) for row in rows],
        }
    )


def _sum(row: Row, question: Question, names: dict[str, str], shows_cost: bool) -> dict[str, Any]:
    keys: dict[str, Any] = {name: getattr(row, usage.KEYS[name]) or None for name in question.group}
    if "account" in keys:
        keys["account"] = names.get(row.account_id, row.account_id)
    if question.group_tag:
        keys["tag"] = row.tag
    start = {"start": rfc3339(row.start)} if question.by else {}
    amount = row.amount_nanos
    shown = {
        **start,
        **keys,
        "runs": row.runs,
        "seconds": row.micros / MICROS_PER_SECOND,
        "instance_seconds": row.instance_micros / MICROS_PER_SECOND,
        "amount_nanos": amount,
        "amount": dollars(amount),
    }
    if not shows_cost:
        return shown
    cost = row.cost_nanos
    margin = None if cost is None else amount - cost
    costs = {"cost": cost, "margin": margin}
    for name, value in costs.items():
        shown |= {f"{name}_nanos": value, name: None if value is None else dollars(value)}
    return shown


async def _filter(
    range: Range,
    account: WhoseOrAll,
    model: Text = None,
    version: Text = None,
    deployment: Text = None,
    hardware: Text = None,
    token: Text = None,
    phase: Text = None,
    outcome: Text = None,
    tag: Tag = None,
    min_amount: Annotated[
        str | None,
        Query(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", description="Dollars: what was charged so much or more."),
    ] = None,
) -> Filter:
    """Raises `Invalid`."""
    since, until = range
    if since >= until:
        raise Invalid("`from` must be before `to`.")
    return Filter(
        since,
        until,
        None if account is None else account.id,
        model,
        version,
        deployment,
        hardware,
        token,
        phase,
        outcome,
        _tag(tag),
        None if min_amount is None else nanos(min_amount),
    )


Wanted = Annotated[Filter, Depends(_filter)]


@router.get("/records", operation_id="usage.records.list", response_model=Page[UsageRecordResponse])
@needs(Scope.BILLING)
async def list_records(request: Request, state: StateDep, tx: Reading, filter: Wanted, cursor: Cursor) -> Json:
    """List what each run used and was charged, newest first."""
    rows = await usage_records.page(tx, filter, PAGE_SIZE + 1, cursor)
    results = [_record(row) for row in rows[:PAGE_SIZE]]
    return Json(page(state.settings, request, rows, PAGE_SIZE, results, "ended_at"))


@router.get("/records.csv", operation_id="usage.records.export", **csv.DOCUMENTED)
@needs(Scope.BILLING)
async def export_records(state: StateDep, filter: Wanted) -> StreamingResponse:
    """Export the same as CSV, all of it, the oldest first."""
    batches = usage_records.stream(state.database, filter)
    return csv.download("usage", exports.USAGE_COLUMNS, batches, exports.usage_row)


@router.get("/focus.csv", operation_id="usage.focus.export", **csv.DOCUMENTED)
@needs(Scope.BILLING)
async def export_focus(state: StateDep, range: Range, account: WhoseOrAll) -> StreamingResponse:
    """Export what was charged, by day, in the columns of FOCUS 1.2, which cost tools read."""
    first, last = range[0].date(), (range[1] - timedelta(microseconds=1)).date()
    if not 0 <= (last - first).days < _MOST_FOCUS_DAYS:
        raise Invalid(f"Ask for 1 to {_MOST_FOCUS_DAYS} days, `from` before `to`.")
    provider = urlsplit(state.settings.url).hostname or state.settings.installation
    period = focus.Period(first, last, provider, None if account is None else account.id)
    return csv.download("focus", focus.COLUMNS, focus.stream(state.database, period))


def _record(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "prediction": row.cause_id if row.cause_kind == PREDICTION else None,
        "account": row.account_name,
        "model": row.model,
        "version": row.version_id,
        "deployment": row.deployment,
        "hardware": row.hardware_sku,
        "token": row.token_id,
        "phase": row.phase,
        "outcome": row.outcome,
        "failure_code": row.failure_code,
        "tags": row.tags or {},
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(row.ended_at),
        "seconds": row.micros / MICROS_PER_SECOND,
        "price_per_second": dollars(row.price_nanos_per_second),
        "price_id": row.price_id,
        "units": row.units,
        "amount_nanos": row.amount_nanos,
        "amount": dollars(row.amount_nanos),
    }
