"""What money costs: the end of a run with and without its charge, and how much one prepaid Account can do at once.

`make bench-money` runs it. Variants take turns in the same run, because only ratios carry over between machines. No
containers: runs are created, started and ended by the verbs that the platform uses.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import bindparam, update
from sqlalchemy.dialects.postgresql import JSONB

from bench import alone
from bench.alone import Alone
from bench.http import Connection
from bench.load import Measured, run
from core import endings, predictions
from core.catalog import Runnable
from core.database import Hot
from core.lifecycle import PredictionStatus
from core.money import credits, folding, wallets
from core.money.pricing import NANOS_PER_DOLLAR
from core.people import tokens
from core.predictions import Outcome, Request
from core.resources import Resources, open_resources
from core.usage import metering
from tests.support.factories import add_account, add_instance, add_node, add_runnable

_FOLD_SECONDS = 1.0
_HOLD_NANOS = 10_000_000
_CONNECTIONS = 8
_OUTCOME = Outcome(PredictionStatus.SUCCEEDED, "done", metrics={"predict_time": 1.2}, micros=1_234_567)

# --- the end of a run -------------------------------------------------------------------------------------------------

_MOVED = (
    update(endings.TABLE)
    .where(endings.held(bindparam("p_id"), bindparam("p_attempt")))
    .values(
        status=bindparam("p_status"),
        output=bindparam("p_output", type_=JSONB(none_as_null=True)),
        error=bindparam("p_error"),
        failure_code=bindparam("p_failure_code"),
        logs=bindparam("p_logs"),
        metrics=bindparam("p_metrics", type_=JSONB),
        micros=bindparam("p_micros"),
    )
)


def _without_ledger(with_usage: bool) -> Hot:
    """As `endings` ends a run, but without charging it; without its usage record, too, unless `with_usage`."""
    ended = _MOVED.values(endings._ENDED).returning(*endings.TABLE.c).cte("ended")
    if not with_usage:
        return Hot(endings._told(ended))
    micros, nanos = endings.TABLE.c.micros.type, metering.TABLE.c.amount_nanos.type
    usage = metering.measured(
        ended,
        bindparam("p_micros", type_=micros),
        bindparam("p_units", type_=JSONB(none_as_null=True)),
        bindparam("p_units_nanos", type_=nanos),
    )
    return Hot(endings._told(ended, usage.cte("usage")))


_WHOLE = endings._FINISH
_VARIANTS = {
    "the row alone": _without_ledger(with_usage=False),
    "with its usage record": _without_ledger(with_usage=True),
    "with ledger and posting": _WHOLE,
}


class Bench:
    """One prepaid Account that is rich, and a Model whose Instance is ready."""

    def __init__(self, resources: Resources, account_ids: list[str], runnable: Runnable, holder: tuple[str, str]):
        self.resources = resources
        self.account_ids = account_ids
        self.runnable = runnable
        self.holder = holder

    async def create(self, account_id: str) -> str:
        async with self.resources.database.direct() as tx:
            request = Request(account_id, self.runnable, {"text": "Ada"}, hold_nanos=_HOLD_NANOS)
            return (await predictions.create(tx, request)).id

    async def start(self, id: str) -> int:
        async with self.resources.database.direct() as tx:
            return (await predictions.start(tx, id, *self.holder)).attempt

    async def finish(self, id: str, attempt: int) -> None:
        async with self.resources.database.direct() as tx:
            await predictions.finish(tx, id, attempt, _OUTCOME)

    async def fold_meanwhile(self) -> None:
        """As the scheduler does."""
        while True:
            async with self.resources.database.transaction() as tx:
                await folding.fold(tx)
            await asyncio.sleep(_FOLD_SECONDS)


async def furnish(resources: Resources, accounts: int) -> Bench:
    async with resources.database.transaction() as tx:
        runnable, node, ids = await add_runnable(tx), await add_node(tx, lease_seconds=3600), []
        for _ in range(accounts):
            ids.append((await add_account(tx)).id)
            await wallets.set_terms(tx, ids[-1], credit_limit_nanos=0)
            money = {"kind": credits.PAID, "amount_nanos": 10**6 * NANOS_PER_DOLLAR}
            await credits.add(tx, ids[-1], **money, reason="bench", actor="bench")
        return Bench(resources, ids, runnable, (await add_instance(tx, node, runnable), node.boot_id))


async def ends(bench: Bench, count: int) -> Table:
    """Each in turn, on one connection."""
    delays: dict[str, list[float]] = {name: [] for name in _VARIANTS}
    for _ in range(count):
        for name, statement in _VARIANTS.items():
            id = await bench.create(bench.account_ids[0])
            attempt = await bench.start(id)
            endings._FINISH = statement
            began = time.perf_counter()
            await bench.finish(id, attempt)
            delays[name].append((time.perf_counter() - began) * 1000)
    endings._FINISH = _WHOLE
    table = Table("the end of a run", "p50 ms", "p95 ms", "added at p50", title=f"T3, {count} of each in turns")
    base = None
    for name, each in delays.items():
        each.sort()
        p50, p95 = each[count // 2], each[int(count * 0.95)]
        base = base if base is not None else p50
        table.add_row(name, f"{p50:.2f}", f"{p95:.2f}", f"{p50 - base:.2f}")
    return table


# --- many at once -----------------------------------------------------------------------------------------------------


async def _in_parallel(count: int, work: Callable[[int], Awaitable[None]]) -> float:
    """How many a second."""
    left = iter(range(count))

    async def worker() -> None:
        for number in left:
            await work(number)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(_CONNECTIONS)))
    return count / (time.perf_counter() - began)


async def busy(bench: Bench, count: int, rounds: int) -> Table:
    """One Account that does everything, and as many as there are connections, in turns; added up meanwhile."""
    table = Table("accounts", "runs per s", title=f"Created, started and ended: {_CONNECTIONS} connections, median")
    rates: dict[int, list[float]] = {1: [], _CONNECTIONS: []}
    folding_meanwhile = asyncio.create_task(bench.fold_meanwhile())
    for _ in range(rounds):
        for accounts, found in rates.items():

            async def one(number: int, accounts: int = accounts) -> None:
                id = await bench.create(bench.account_ids[number % accounts])
                await bench.finish(id, await bench.start(id))

            found.append(await _in_parallel(count, one))
    folding_meanwhile.cancel()
    for accounts, found in rates.items():
        table.add_row(str(accounts), f"{sorted(found)[rounds // 2]:.0f}")
    return table


async def creates(api: Alone, bench: Bench, count: int, rounds: int) -> Table:
    """By HTTP, of a prepaid Account and of one without limit, in turns."""
    table = Table("account", "creates per s", "p50 ms", "p99 ms", "api CPU ms", title=f"POST, {_CONNECTIONS} at a time")
    body = {"version": bench.runnable.version_id, "input": {"text": "Ada"}}
    headers = {}
    async with bench.resources.database.transaction() as tx:
        await wallets.set_terms(tx, bench.account_ids[1], credit_limit_nanos=None)
        for name, id in zip(("prepaid", "without limit"), bench.account_ids, strict=False):
            token = tokens.new_token()
            await tokens.add(tx, id, token, "bench")
            headers[name] = {"Authorization": f"Bearer {token}"}
    found: dict[str, list[Measured]] = {name: [] for name in headers}
    for name in list(headers) * rounds:

        async def call(connection: Connection, name: str = name) -> None:
            status, answer = await connection.post("/v1/predictions", body, headers[name])
            assert status == 201, answer

        found[name].append(await run(api.url, call, _CONNECTIONS, count, lambda: api.cpu_seconds()["api"]))
    for name, each in found.items():
        median = sorted(each, key=lambda measured: measured.rate)[rounds // 2]
        delays = [f"{median.percentile(share):.1f}" for share in (0.5, 0.99)]
        table.add_row(name, f"{median.rate:.0f}", *delays, f"{median.cpu_ms:.2f}")
    return table


async def _main(arguments: argparse.Namespace) -> None:
    console = Console(width=110)
    with (
        tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder,
        alone.running(Path(folder), arguments.port) as api,
    ):
        async with open_resources(api.settings) as resources:
            bench = await furnish(resources, _CONNECTIONS)
            console.print(await ends(bench, arguments.ends))
            console.print(await busy(bench, arguments.runs, arguments.rounds))
            console.print(await creates(api, bench, arguments.creates, arguments.rounds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--ends", type=int, default=1000, help="ends of each variant")
    parser.add_argument("--runs", type=int, default=3000, help="runs per round")
    parser.add_argument("--creates", type=int, default=1000, help="POST calls per round")
    parser.add_argument("--rounds", type=int, default=3)
    uvloop.run(_main(parser.parse_args()))
