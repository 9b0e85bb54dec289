"""A virtual day of many models on few GPUs: Millrace against plainer policies, with the same calls and the same GPUs.

`make bench-simulator` runs it; docs/scheduling.md explains it and has the figures.
"""

import argparse
from pathlib import Path

from rich.console import Console

from bench.simulator.engine import Simulation
from bench.simulator.plots import draw
from bench.simulator.policies import POLICIES
from bench.simulator.report import Summary, keep, kept, summarize, table
from bench.simulator.traffic import Scale, calls, models

_GPUS_PER_NODE = 8
_COMPARED = ["millrace", "lru", "lru-each", "window", "always-on"]
#: Half of the models need one GPU, a third two, a sixth four.
_GPU_COUNTS = (1, 1, 1, 2, 2, 4)


def simulate(scale: Scale, seed: int, policy: str, between_passes: float, warm_up: float) -> Summary:
    """`between_passes`: the least time from one pass to the next, in virtual seconds."""
    drawn = models(scale, seed)
    simulation = Simulation(scale, drawn, POLICIES[policy](), seed, between_passes)
    return summarize(simulation.run(calls(scale, drawn, seed)), drawn, scale, seed, warm_up)


def _main(arguments: argparse.Namespace) -> None:
    console = Console(width=160)
    scale = Scale(
        nodes=arguments.nodes,
        gpus_per_node=_GPUS_PER_NODE,
        models=arguments.models,
        load=arguments.load,
        gpu_counts=_GPU_COUNTS,
        begin_hour=arguments.begin_hour,
        hours=arguments.hours,
    )
    found: list[Summary] = []
    for seed in arguments.seeds:
        for policy in arguments.policies:
            found.append(simulate(scale, seed, policy, arguments.between_passes, arguments.warm_up_hours * 3600))
            console.print(found[-1].line())
            if arguments.results:
                keep(found[-1], arguments.results)
    if arguments.results:
        found = kept(arguments.results)
    console.print(table(found, scale))
    if arguments.plots:
        draw(found, arguments.plots)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--models", type=int, default=5000)
    parser.add_argument("--load", type=float, default=0.2, help="share of the GPUs that calls alone keep busy")
    parser.add_argument("--begin-hour", type=float, default=0.0)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--warm-up-hours", type=float, default=1.0, help="calls that come before are not counted")
    parser.add_argument("--between-passes", type=float, default=10.0, help="virtual seconds; 0.05 for a small fleet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--policies", nargs="*", choices=list(POLICIES), default=_COMPARED, help="none: only `--results`"
    )
    parser.add_argument("--results", type=Path, help="a file to add to; what others have added is reported, too")
    parser.add_argument("--plots", type=Path, help="folder for SVG files")
    _main(parser.parse_args())
