"""What Millrace adds to a call: the no-op model called in its container, then through the api with `Prefer: wait`.

`make bench` runs it. Both are measured in turns in the same run, because only ratios carry over between machines.
"""

import argparse
import asyncio
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bench.http import Connection
from bench.instance import Instance, running
from bench.load import Call, Measured, run

_MODELS = Path(__file__).parent / "models"
_INPUT = {"text": "Ada"}
#: Newer Cog answers a moment before its slot is free; its own clients have to try again, and so do we.
_BUSY_PAUSE_SECONDS = 0.0005
_PATHS = ("postgres", "redis", "api", "node", "scheduler", "webhooks", "model")


def direct() -> Call:
    async def call(connection: Connection) -> None:
        while True:
            status, answer = await connection.post("/predictions", {"input": _INPUT}, {})
            if status != 409:
                break
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)
        assert answer["output"] == _INPUT["text"], answer

    return call


def through_api(token: str, model: str) -> Call:
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait"}
    body = {"version": f"millrace/{model}", "input": _INPUT}

    async def call(connection: Connection) -> None:
        status, answer = await connection.post("/v1/predictions", body, headers)
        assert status == 201, answer
        assert answer["output"] == _INPUT["text"], answer

    return call


async def measure(instance: Instance, model: str, rounds: int, calls: dict[int, int]) -> Table:
    """Rounds of direct and api calls in turns; the table shows the round with the median rate of each."""
    api = through_api(instance.token, model)
    before = instance.containers()
    await run(instance.url, api, 1, 5, lambda: 0.0)
    containers = {id: url for id, url in instance.containers().items() if id not in before}
    [container] = containers.values()
    await run(instance.url, api, 8, 200, lambda: 0.0)
    table = Table("model", "calls", "c", "p50 ms", "p90 ms", "p99 ms", "per s", "CPU ms per call", title="Overhead")
    for concurrency, count in calls.items():
        found: dict[str, list[Measured]] = {"container": [], "api": []}
        for _ in range(rounds):
            found["container"].append(await run(container, direct(), concurrency, count, lambda: _cpu(instance)))
            found["api"].append(await run(instance.url, api, concurrency, count, lambda: _cpu(instance)))
        medians = {name: sorted(each, key=lambda m: m.rate)[len(each) // 2] for name, each in found.items()}
        for name, median in medians.items():
            table.add_row(model, name, str(concurrency), *_figures(median))
        added = medians["api"].percentile(0.5) - medians["container"].percentile(0.5)
        ratio = medians["api"].rate / medians["container"].rate
        table.add_row("", "added", "", f"{added:.2f}", "", "", f"x {ratio:.2f}", "", end_section=True)
    return table


def _cpu(instance: Instance) -> float:
    return sum(instance.cpu_seconds().values())


def _figures(measured: Measured) -> list[str]:
    delays = [f"{measured.percentile(share):.2f}" for share in (0.5, 0.9, 0.99)]
    return [*delays, f"{measured.rate:.0f}", f"{measured.cpu_ms:.2f}"]


async def where_it_goes(instance: Instance, model: str, concurrency: int, calls: int) -> Table:
    before = instance.cpu_seconds()
    measured = await run(instance.url, through_api(instance.token, model), concurrency, calls, lambda: 0.0)
    after = instance.cpu_seconds()
    table = Table("process", "CPU ms per call", title=f"Where the time goes ({model}, c={concurrency})")
    for role in _PATHS:
        table.add_row(role, f"{(after.get(role, 0.0) - before.get(role, 0.0)) / calls * 1000:.2f}")
    table.add_row("all", f"{(sum(after.values()) - sum(before.values())) / calls * 1000:.2f}")
    table.caption = f"{measured.rate:.0f} per second in this run"
    return table


async def _main(arguments: argparse.Namespace) -> None:
    console = Console(width=110)
    with running(_MODELS, arguments.port) as instance:
        calls = {1: arguments.calls, 32: arguments.calls * 4}
        console.print(await measure(instance, "no-op", arguments.rounds, calls))
        console.print(await measure(instance, "no-op-sync", arguments.rounds, {1: arguments.calls}))
        for concurrency in (1, 32):
            console.print(await where_it_goes(instance, "no-op", concurrency, arguments.calls * concurrency))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--calls", type=int, default=300, help="calls per round at concurrency 1")
    parser.add_argument("--rounds", type=int, default=3)
    uvloop.run(_main(parser.parse_args()))
