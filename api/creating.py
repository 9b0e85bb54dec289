"""How every prediction is created, by whichever path: validate, T1, and hold the answer where that is asked for."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, Header
from sqlalchemy import Row

from api.dependencies import Caller, NewId, StateDep
from api.prefer import deadline_seconds, hold_seconds, preference_applied, priority_of
from api.responses import Json
from api.schemas.predictions import RunRequest
from api.state import State
from core import predictions, reuse, wire
from core.catalog import Runnable
from core.errors import PaymentRequired
from core.lifecycle import PredictionStatus
from core.predictions import Request
from core.queue import Priority
from core.usage.tags import parse as parse_tags

Prefer = Annotated[
    str | None, Header(description="`wait` or `wait=<seconds>`: hold the answer until the output is complete.")
]
CancelAfter = Annotated[
    str | None, Header(description="Cancel it so long after its creation: `90`, `90s`, `1h30m`; 5 s to 24 h.")
]
Cache = Annotated[
    str | None,
    Header(
        alias="Millrace-Cache",
        description="`allow`: take the result of an equal, earlier prediction, where the Version allows that.",
    ),
]
Tags = Annotated[
    str | None,
    Header(
        alias="X-Millrace-Tags",
        description="By which you tell your costs apart: `team=vision, project=catalogue`; at most 8.",
    ),
]

PriorityHeader = Annotated[
    str | None,
    Header(
        alias="X-Millrace-Priority",
        description="`low`, for batches: it is taken when nothing else waits for the same model. Default: `normal`.",
    ),
]


@dataclass(frozen=True, slots=True)
class Creating:
    """The request, as far as it is the same on every path."""

    state: State
    caller: Row
    new_id: str
    hold: float | None
    applied: dict[str, str]
    deadline: float | None
    may_reuse: bool
    tags: dict[str, str] | None
    priority: Priority


async def _creating(
    state: StateDep,
    caller: Caller,
    new_id: NewId,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
    cache: Cache = None,
    tags: Tags = None,
    priority: PriorityHeader = None,
) -> Creating:
    deadline, applied = deadline_seconds(cancel_after), preference_applied(prefer)
    may_reuse = (cache or "").strip().lower() == "allow"
    asked = parse_tags(tags), priority_of(priority)
    return Creating(state, caller, new_id, hold_seconds(prefer), applied, deadline, may_reuse, *asked)


CreatingDep = Annotated[Creating, Depends(_creating)]


async def create(creating: Creating, runnable: Runnable, body: RunRequest) -> Json:
    """201 with the prediction; 202 where it was to be waited for and has not ended in time."""
    state = creating.state
    schema = state.schema_of(runnable)
    input = schema.prepare(body.input)
    request = Request(
        id=creating.new_id,
        account_id=creating.caller.id,
        runnable=runnable,
        input=input,
        secret_inputs=schema.secrets() or None,
        webhook_url=body.webhook_url,
        webhook_events=body.webhook_events,
        deadline_seconds=creating.deadline,
        cache_key=reuse.cache_key(runnable.version_id, input) if runnable.caches_results else None,
        token_id=creating.caller.token_id,
        tags=creating.tags,
        priority=creating.priority,
    )
    headers = {"Location": wire.prediction_url(state.settings, request.id)}
    if creating.may_reuse and request.cache_key and (row := await _reuse(state, request)):
        return Json(await shown(state, row), 201, headers | creating.applied | {"Millrace-Cache": "hit"})
    request = replace(request, hold_nanos=await state.funds.hold_for(creating.caller, runnable))
    if creating.hold is not None:
        return await _create_and_wait(state, request, creating.hold, headers | creating.applied)
    row = await _insert(state, request)
    return Json(await shown(state, row), 201, headers)


async def _insert(state: State, request: Request) -> Row:
    """T1. What is already over but not added up yet may hold the money that is needed: then once more with it."""
    try:
        async with state.database.direct() as tx:
            return await predictions.create(tx, request)
    except PaymentRequired:
        await state.funds.fold(request.account_id)
    async with state.database.direct() as tx:
        return await predictions.create(tx, request)


async def _reuse(state: State, request: Request) -> Row | None:
    async with state.database.autocommit() as tx:
        return await reuse.create(tx, request)


async def _create_and_wait(state: State, request: Request, hold: float, headers: dict[str, str]) -> Json:
    with state.waiter.expect(request.id) as finished:
        row = await _insert(state, request)
        ended = row.completed_at is not None or await state.waiter.wait(
            finished, hold, lambda: has_ended(state, request.id)
        )
    if not ended:
        # Every client takes any other status for the final answer, so it is shown as it was created.
        document = wire.prediction(state.settings, row, None)
        return Json(document | {"status": PredictionStatus.STARTING}, 202, headers)
    async with state.database.direct() as tx:
        row = await predictions.find(tx, request.id)
    return Json(await shown(state, row), 201, headers)


async def has_ended(state: State, prediction_id: str) -> bool:
    async with state.database.direct() as tx:
        row = await predictions.find(tx, prediction_id)
    return row is None or PredictionStatus(row.status).is_terminal


async def shown(state: State, row: Row) -> dict[str, Any]:
    """One prediction with its files as this server gives them: URLs, or data URIs where clients need those."""
    return wire.prediction(state.settings, row, await state.shown(row.output))
