"""How long the billing pages take with ten million usage records: one api process, one caller, in turns.

`make bench-money-pages` runs it. Filling takes minutes, and 10 GB of disk for as long as it runs.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, update

from bench import alone
from bench.alone import Alone
from bench.http import Connection
from bench.money_rows import fill, sizes
from core.ids import new_id
from core.people import sessions
from core.resources import Resources, open_resources
from core.tables import Account, Login

#: What is aimed at, of each page.
AIM_MS = 300
#: An api process remembers sums of all Accounts for ten seconds.
_FORGOTTEN_SECONDS = 11.0

_ADMIN = {
    "overview": "",
    "overview, 7 days": "?range=7d",
    "overview of an account": "?account=bench-0",
    "usage by account": "/usage?by=account",
    "usage by model": "/usage?by=model",
    "usage by day": "/usage?by=day",
    "usage by token": "/usage?by=token",
    "usage by tag": "/usage?by=tag",
    "usage of an account": "/usage?account=bench-0&by=model",
    "usage of a model": "/usage?model=bench/model-3&by=account",
    "yesterday of an account": "/usage?account=bench-0&range=yesterday",
    "accounts": "/accounts",
    "one account": "/accounts/bench-0",
    "runs": "/runs",
    "runs of an account": "/runs?account=bench-0",
    "runs of a model": "/runs?model=bench/model-3",
    "runs of a small account": "/runs?account=bench-190",
    "runs of an account on a model": "/runs?account=bench-0&model=bench/model-3",
    "idling": "/idle",
    "margin": "/margin",
    "ledger": "/money",
    "prices": "/prices",
}
_OWNER = {"own overview": "", "own usage by model": "/usage?by=model", "own runs": "/runs"}


async def _session(resources: Resources, account_id: str, is_admin: bool) -> dict[str, str]:
    """The headers of a browser that is logged in."""
    login = new_id()
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == account_id).values(is_admin=is_admin))
        row = {"id": login, "account_id": account_id, "email": f"{login}@example.com", "password_hash": "none"}
        await tx.execute(insert(Login).values(**row))
        secret = await sessions.start(tx, login, "127.0.0.1", "bench")
    return {"Cookie": f"millrace-session={secret}", "Accept": "text/html"}


async def measure(api: Alone, resources: Resources, ids: list[str], rounds: int) -> Table:
    """Each page twice a round: once when nothing of it is remembered, and again at once."""
    people = {
        "/admin/billing": (_ADMIN, await _session(resources, ids[-1], True)),
        "/account/billing": (_OWNER, await _session(resources, ids[0], False)),
    }
    calls = {name: (base + path, who) for base, (pages, who) in people.items() for name, path in pages.items()}
    fresh: dict[str, list[float]] = {name: [] for name in calls}
    again: dict[str, list[float]] = {name: [] for name in calls}
    sizes = {}
    connection = await Connection.open(api.url)
    for _ in range(rounds):
        for name, (path, headers) in calls.items():
            for delays in (fresh, again):
                began = time.perf_counter()
                status, body = await connection.get(path, headers)
                delays[name].append((time.perf_counter() - began) * 1000)
                assert status == 200, (path, status, body[:500])
            sizes[name] = len(body)
        await asyncio.sleep(_FORGOTTEN_SECONDS)
    connection.close()
    table = Table("page", "first ms", "p50 ms", "max ms", "again ms", "kB", title=f"The aim is {AIM_MS} ms")
    for name, delays in fresh.items():
        medians = [sorted(each)[rounds // 2] for each in (delays, again[name])]
        figures = (delays[0], medians[0], max(delays), medians[1])
        table.add_row(name, *(f"{ms:.0f}" for ms in figures), f"{sizes[name] / 1000:.0f}")
    return table


async def _main(arguments: argparse.Namespace) -> None:
    console = Console(width=120)
    with (
        tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder,
        alone.running(Path(folder), arguments.port) as api,
    ):
        async with open_resources(api.settings) as resources:
            ids = await fill(resources, arguments.records)
            for name, (rows, size) in (await sizes(resources)).items():
                console.print(f"{name}: {rows:,} rows, {size}")
            console.print(await measure(api, resources, ids, arguments.rounds))
            if arguments.keep:
                console.input(f"{api.settings.url} {api.settings.database_url}: Enter ends it.")
                console.print(await measure(api, resources, ids, arguments.rounds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="wait for a key, to look at it, and measure again")
    uvloop.run(_main(parser.parse_args()))
