"""What a GPU gets out of Millrace: how busy it is, what a swap costs, whether memory comes back, whether bills agree.

`make bench-gpu` runs it, through the process runtime; without a GPU the same on the CPU, with smaller numbers. See
README.md in this folder for machines that reach no package index.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from bench.gpu import projects
from bench.gpu.calls import Caller
from bench.instance import running

_PREDICT_MILLISECONDS = 50
#: Long enough that what surrounds a run is less than a hundredth of it.
_METERED_MILLISECONDS = 5_000
_AT_ONCE = 8
_PHASES = ("queue_time", "pull_time", "create_time", "boot_time", "setup_time")


async def busy_share(caller: Caller, model: str, count: int) -> float:
    """Of the time from the first run's beginning to the last one's end, what the device was at work for; one slot."""
    slot = await caller.one_slot(model)
    await caller.many(slot, _PREDICT_MILLISECONDS, 2 * _AT_ONCE, 1)
    runs = [one["output"] for one in await caller.many(slot, _PREDICT_MILLISECONDS, count, _AT_ONCE)]
    wall = max(run["ended"] for run in runs) - min(run["began"] for run in runs)
    return sum(run["busy_seconds"] for run in runs) / wall


async def metered_ratio(caller: Caller, model: str, count: int) -> float:
    """Metered seconds to those of the device's own clock."""
    runs = await caller.many(model, _METERED_MILLISECONDS, count, 1)
    return sum(run["metrics"]["predict_time"] for run in runs) / sum(run["output"]["busy_seconds"] for run in runs)


async def swaps(caller: Caller, models: Sequence[str], rounds: int) -> tuple[Table, int]:
    """Each model in turn, none of which fits beside another on a GPU; and the most memory that was in use after one."""
    table = Table("", "whole s", *(f"{phase.removesuffix('_time')} s" for phase in _PHASES), title="From call to start")
    most, waits = 0, []
    for number in range(rounds):
        for model in models:
            began = time.monotonic()
            ended = await caller.one(model)
            waits.append(time.monotonic() - began)
            phases = [f"{ended['metrics'].get(phase, 0.0):.2f}" for phase in _PHASES]
            table.add_row(f"{model}, round {number + 1}", f"{waits[-1]:.2f}", *phases)
            most = max([most, *(used for used, _ in projects.gpu_memory())])
    table.add_section()
    table.add_row("median", f"{statistics.median(waits):.2f}")
    return table, most


async def _without_device(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="millrace-bench-gpu-") as folder:
        model = projects.write_stand_in(Path(folder))
        with running(Path(folder), arguments.port) as instance:
            share = await busy_share(Caller(instance), model, arguments.calls)
    Console().print(f"Busy share of what stands in for a device, {arguments.calls} runs of 50 ms: {share:.3f}")


async def _main(arguments: argparse.Namespace) -> None:
    console = Console(width=110)
    before = projects.gpu_memory()
    console.print(f"On {len(before)} GPU(s)" if before else "On the CPU: shares and ratios count, speeds do not")
    with tempfile.TemporaryDirectory(prefix="millrace-bench-gpu-") as folder:
        models = projects.write(Path(folder), 2, arguments.torch_from)
        with running(Path(folder), arguments.port) as instance:
            caller = Caller(instance)
            table, most = await swaps(caller, models, arguments.rounds)
            share = await busy_share(caller, models[0], arguments.calls)
            ratio = await metered_ratio(caller, models[0], arguments.metered)
        after = projects.gpu_memory()
    console.print(table)
    console.print(f"Busy share, one slot, {_PREDICT_MILLISECONDS} ms back to back, {arguments.calls} runs: {share:.3f}")
    console.print(f"Metered to device seconds, {arguments.metered} runs of 5 s: {ratio:.4f}")
    for index, ((was, total), (is_now, _)) in enumerate(zip(before, after, strict=True)):
        figures = (f"{number / 2**30:.2f}" for number in (total, was, most, is_now))
        console.print("GPU {}: {} GiB; used before {}, at most {}, after the end {}".format(index, *figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8767)
    parser.add_argument("--calls", type=int, default=200, help="runs of 50 ms")
    parser.add_argument("--metered", type=int, default=4, help="runs of 5 s")
    parser.add_argument("--rounds", type=int, default=3, help="swaps of each model")
    parser.add_argument("--torch-from", type=Path, help="folder to import torch from, where none can be installed")
    parser.add_argument("--stand-in", action="store_true", help="busy share alone, of a model that sleeps")
    given = parser.parse_args()
    uvloop.run(_without_device(given) if given.stand_in else _main(given))
