"""Server-sent events of one prediction: from the start, or from `Last-Event-ID`, during the run and after its end.

LF only (Go knows no CRLF), an id on every event (Python 1.x drops those before the first id), keep-alives as comments
without a blank line (Go forgets its last id at one). A listener reads at its own pace and disturbs nobody.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
from redis.exceptions import RedisError
from sqlalchemy import Row

from api.state import State
from core import predictions, streams
from core.lifecycle import PredictionStatus
from core.log import get_logger
from core.streams import Entry

log = get_logger()

#: After so long without a word a listener is shown that it is still connected, and its row is looked at, in case its
#: end was not told. Not all at once, or hundreds that came together would hold up everybody else each time.
_SILENCE = (7.5, 12.5)
#: How often that row is looked at whose stream is broken.
_LOOK_SECONDS = 1.0
_EVENT_ID = re.compile(r"^(\d{1,20}):(\d{1,20})$")
_GREETING = b": hi\n"
_KEEP_ALIVE = b": hb\n"
_REASONS = {
    PredictionStatus.SUCCEEDED: {},
    PredictionStatus.CANCELED: {"reason": "canceled"},
    PredictionStatus.ABORTED: {"reason": "canceled"},
}


async def events(state: State, row: Row, last_event_id: str | None) -> AsyncIterator[bytes]:
    """Ends after `done`. What Redis has lost, or may have while it was away, is told from the row at the end."""
    yield _GREETING
    after, told, has_lost = _position(last_event_id), 0, False
    while True:
        if PredictionStatus(row.status).is_terminal and (has_lost or not await _is_kept(state, row.id)):
            async for event in _from_row(state, row, told or _heard(row, last_event_id)):
                yield event
            return
        entries, has_lost = await _read(state, row.id, after, has_lost)
        for entry in entries:
            after = entry.id
            if entry.kind == "done":
                yield _end(entry.id, PredictionStatus(entry.value["status"]), entry.value["error"])
                return
            for datum in await _data(state, entry.value):
                yield _event("output", entry.id, datum)
                told += 1
        if not entries:
            yield _KEEP_ALIVE
            async with state.database.direct() as tx:
                row = await predictions.find(tx, row.id)


async def _read(state: State, prediction_id: str, after: str, has_lost: bool) -> tuple[list[Entry], bool]:
    """What has been said since, and whether some of it may be missing: then the row is what is left to wait for."""
    try:
        if not has_lost:
            return await streams.read(state.resources.redis, prediction_id, after, random.uniform(*_SILENCE)), False
    except (RedisError, OSError) as error:
        log.warning("stream broken, will be told from the row", prediction=prediction_id, error=str(error))
    await asyncio.sleep(_LOOK_SECONDS)
    return [], True


async def _is_kept(state: State, prediction_id: str) -> bool:
    try:
        return await streams.exists(state.resources.redis, prediction_id)
    except (RedisError, OSError):
        return False


async def _from_row(state: State, row: Row, told: int) -> AsyncIterator[bytes]:
    moment = _ended_ms(row)
    for index, datum in enumerate(await _data(state, row.output)):
        if index >= told:
            yield _event("output", f"{moment}-{index}", datum)
    yield _end(f"{moment}-{1_000_000}", PredictionStatus(row.status), row.error)


def _ended_ms(row: Row) -> int:
    return int(row.completed_at.timestamp() * 1000)


def _heard(row: Row, last_event_id: str | None) -> int:
    """How many data a listener had from the row before it came back."""
    found = _EVENT_ID.match(last_event_id or "")
    return int(found[2]) + 1 if found and int(found[1]) == _ended_ms(row) else 0


async def _data(state: State, value: Any) -> list[str]:
    """One text per item: a chunk as it is, a file as this server gives it, anything else as JSON."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    items = await state.shown(items)
    return [item if isinstance(item, str) else orjson.dumps(item).decode() for item in items]


def _event(name: str, id: str, data: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return f"event: {name}\nid: {id.replace('-', ':')}\n{lines}\n".encode()


def _end(id: str, status: PredictionStatus, error: str | None) -> bytes:
    if status in _REASONS:
        return _event("done", id, orjson.dumps(_REASONS[status]).decode())
    failure = _event("error", id, orjson.dumps({"detail": error}).decode())
    return failure + _event("done", id, '{"reason":"error"}')


def _position(last_event_id: str | None) -> str:
    found = _EVENT_ID.match(last_event_id or "")
    return f"{found[1]}-{found[2]}" if found else streams.START
