"""What one pass of the planner takes of the processor when 8,000 GPUs are all held and some models wait for one.

python -m bench.simulator.planner
"""

import argparse
import random
from statistics import median
from time import thread_time

from bench.simulator.fleet import GPU_MODEL, Fleet
from bench.simulator.traffic import Model, Scale, models
from scheduler.autoscaling import loss
from scheduler.placement import Held, Need, plan

_SCALE = Scale(nodes=1000, gpus_per_node=8, models=5000, load=0.2, gpu_counts=(1, 1, 1, 2, 2, 4))
_ROUNDS = 5
_IDLE_SHARE = 0.6


def held(fleet: Fleet, drawn: list[Model], chance: random.Random) -> list[Held]:
    """Every Node is full, as far as what models need allows, and most of what it holds is idle."""
    found: list[Held] = []
    for node in fleet.nodes:
        free = list(node.gpus)
        while free:
            model = chance.choice(drawn)
            if model.gpus > len(free):
                continue
            taken, free = tuple(free[: model.gpus]), free[model.gpus :]
            age, idle = chance.uniform(0.0, 4000.0), chance.uniform(0.0, 2000.0)
            arrivals = tuple(sorted(chance.uniform(idle, 20_000.0) for _ in range(32)))
            found.append(
                Held(
                    id=f"i{len(found)}",
                    node_id=node.id,
                    target=model.name,
                    version_id=model.name,
                    gpu_uuids=taken,
                    evictable=chance.random() < _IDLE_SHARE,
                    idle_seconds=idle,
                    boot_seconds=model.boot_seconds,
                    age_seconds=idle + age,
                    loss=loss(model.boot_seconds, idle, arrivals),
                    displaceable=True,
                )
            )
    return found


def needs(drawn: list[Model], count: int, chance: random.Random) -> list[Need]:
    return [
        Need(
            target=f"new {number}",
            version_id=f"new {number}",
            artifact_kind="image",
            hardware_sku="gpu",
            missing=1,
            waiting=3,
            oldest_wait=chance.uniform(0.0, 30.0),
            gpu_count=chance.choice(drawn).gpus,
            gpu_model=GPU_MODEL,
            boot_seconds=30.0,
        )
        for number in range(count)
    ]


def _main() -> None:
    chance = random.Random(1)
    drawn = models(_SCALE, 1)
    fleet = Fleet(_SCALE, drawn, maximum=_SCALE.gpus)
    instances = held(fleet, drawn, chance)
    for count in (1, 20, 200):
        asked = needs(drawn, count, chance)
        took = []
        for _ in range(_ROUNDS):
            began = thread_time()
            decided = plan(asked, fleet.nodes, instances)
            took.append((thread_time() - began) * 1000)
        print(
            f"{len(instances)} Instances, {count} needs: {median(took):.0f} ms ({min(took):.0f} to {max(took):.0f}), "
            f"{len(decided.evictions)} go"
        )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    _main()
