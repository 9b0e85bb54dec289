"""What reading costs, and whether it costs more in a large table: GET of one prediction and lists of 100.

`make bench-reads` runs it: two api processes, one with 1,000 predictions and one with a million, called in turns.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from pathlib import Path
from urllib.parse import urlencode

import orjson
import psutil
import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench import alone
from bench.alone import Alone
from bench.http import Connection
from bench.load import Call, Measured, run
from bench.rows import Filled, fill, table_size
from core.resources import Resources, open_resources

_OWNERS = 4
_IDS = 2_000
_PAGE = 100
_CONCURRENCY = 8

Paths = Callable[[], Iterator[tuple[str, str]]]
"""Endless (token, path)."""


@dataclass(frozen=True, slots=True)
class Stand:
    """One api process and what may be asked of it, by name."""

    api: Alone
    asked: dict[str, Paths]
    size: str


async def prepare(api: Alone, predictions: int) -> Stand:
    async with open_resources(api.settings) as resources:
        owners = await fill(resources, predictions, _OWNERS)
        asked = {
            "GET one": await _gets(resources, owners),
            "list, first page": _lists([(owner.token, {}) for owner in owners]),
            "list, deep by cursor": _lists([(owner.token, await _deep(api, resources, owner)) for owner in owners]),
            "list, between two moments": _lists([(owner.token, await _window(resources, owner)) for owner in owners]),
            "list, before a moment": _lists([(owner.token, await _before(resources, owner)) for owner in owners]),
            "list, source=web": _lists([(owner.token, {"source": "web"}) for owner in owners]),
        }
        return Stand(api, asked, await table_size(resources))


async def _gets(resources: Resources, owners: list[Filled]) -> Paths:
    tokens = {owner.account_id: owner.token for owner in owners}
    async with resources.database.autocommit() as tx:
        rows = await tx.all(text(f"SELECT id, account_id FROM predictions ORDER BY random() LIMIT {_IDS}"))
    calls = [(tokens[row.account_id], f"/v1/predictions/{row.id}") for row in rows]
    return lambda: cycle(random.sample(calls, len(calls)))


def _lists(calls: list[tuple[str, dict[str, str]]]) -> Paths:
    return lambda: cycle((token, f"/v1/predictions?{urlencode(query)}") for token, query in calls)


async def _deep(api: Alone, resources: Resources, owner: Filled) -> dict[str, str]:
    """The cursor of a full page near the end: as a client has it that followed `next` all the way."""
    moment = await _moment(resources, owner, back_from_oldest=_PAGE * 2 + 20)
    connection = await Connection.open(api.url)
    query = urlencode({"created_before": moment.isoformat()})
    _, body = await connection.get(f"/v1/predictions?{query}", {"Authorization": f"Bearer {owner.token}"})
    connection.close()
    following = orjson.loads(body)["next"]
    return {"cursor": following.rpartition("cursor=")[2].replace("%3D", "=")}


async def _window(resources: Resources, owner: Filled) -> dict[str, str]:
    """Moments between which there are more than a page."""
    after = await _moment(resources, owner, back_from_oldest=_PAGE // 5)
    return {"created_after": after.isoformat(), **await _before(resources, owner)}


async def _before(resources: Resources, owner: Filled) -> dict[str, str]:
    moment = await _moment(resources, owner, back_from_oldest=_PAGE * 2)
    return {"created_before": moment.isoformat()}


async def _moment(resources: Resources, owner: Filled, back_from_oldest: int) -> datetime:
    statement = (
        "SELECT created_at FROM predictions WHERE account_id = :owner ORDER BY created_at LIMIT 1 OFFSET :offset"
    )
    async with resources.database.autocommit() as tx:
        return await tx.scalar(text(statement).bindparams(owner=owner.account_id, offset=back_from_oldest))


def _calling(paths: Paths) -> Call:
    calls = paths()

    async def call(connection: Connection) -> None:
        token, path = next(calls)
        status, body = await connection.get(path, {"Authorization": f"Bearer {token}"})
        assert status == 200, body
        assert "?" not in path or body.count(b'"created_at"') == _PAGE, f"not a full page: {path}"

    return call


async def measure(stands: dict[str, Stand], rounds: int, calls: dict[str, int]) -> Table:
    table = Table(title=f"Reading, {_CONCURRENCY} at a time: medians of {rounds} rounds, in turns")
    for column in ("asked", "rows", "per s", "p50 ms", "p99 ms", "api", "postgres", "redis", "client"):
        table.add_column(column, justify="left" if column == "asked" else "right")
    for asked, count in calls.items():
        found: dict[str, list[tuple[Measured, dict[str, float]]]] = {rows: [] for rows in stands}
        for rows in list(stands) * rounds:
            stand = stands[rows]
            found[rows].append(await _once(stand, asked, count))
        medians = {rows: sorted(each, key=lambda one: one[0].rate)[rounds // 2] for rows, each in found.items()}
        for rows, (measured, used) in medians.items():
            delays = [f"{measured.percentile(share):.2f}" for share in (0.5, 0.99)]
            shares = [f"{used[role] / measured.wall_seconds:.0%}" for role in ("api", "postgres", "redis", "client")]
            table.add_row(asked, rows, f"{measured.rate:.0f}", *delays, *shares)
        few, many = (measured.rate for measured, _ in medians.values())
        table.add_row("", "", f"x {few / many:.2f}", end_section=True)
    return table


async def _once(stand: Stand, asked: str, count: int) -> tuple[Measured, dict[str, float]]:
    """Shares are of one processor; `client` is this process."""
    before = _used(stand.api)
    measured = await run(stand.api.url, _calling(stand.asked[asked]), _CONCURRENCY, count, lambda: 0.0)
    after = _used(stand.api)
    return measured, {role: after[role] - before[role] for role in after}


def _used(api: Alone) -> dict[str, float]:
    own = psutil.Process().cpu_times()
    return {**api.cpu_seconds(), "client": own.user + own.system}


async def _main(arguments: argparse.Namespace) -> None:
    console = Console(width=120)
    with ExitStack() as stack:
        stands = {}
        for number, predictions in enumerate((arguments.few, arguments.many)):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="millrace-bench-"))
            api = stack.enter_context(alone.running(Path(folder), arguments.port + number))
            stands[f"{predictions:,}"] = await prepare(api, predictions)
        for rows, stand in stands.items():
            console.print(f"{rows} predictions take {stand.size}.")
        asked = next(iter(stands.values())).asked
        lists = {name: arguments.lists for name in asked if name.startswith("list")}
        console.print(await measure(stands, arguments.rounds, {"GET one": arguments.gets, **lists}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--few", type=int, default=1_000, help="predictions in the small table")
    parser.add_argument("--many", type=int, default=1_000_000, help="predictions in the large table")
    parser.add_argument("--gets", type=int, default=4_000, help="GET calls per round")
    parser.add_argument("--lists", type=int, default=400, help="list calls per round")
    parser.add_argument("--rounds", type=int, default=5)
    uvloop.run(_main(parser.parse_args()))
