"""What a simulated day comes down to: waiting, boots, what the GPUs did, and what the planner took."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from bench.simulator.engine import Outcome
from bench.simulator.fleet import Use
from bench.simulator.traffic import Model, Scale

#: A call that waits for longer than this has waited for a boot or for a slot.
_NOTICED_SECONDS = 1.0
#: Models by how long they boot, in seconds: up to each of these.
CLASSES = (5.0, 15.0, 40.0, 1000.0)


@dataclass(frozen=True, slots=True)
class Summary:
    policy: str
    seed: int
    calls: int
    mean: float
    percentiles: dict[float, float]
    worst: float
    noticed: float
    """The share of calls that waited for longer than a moment."""
    unserved: int
    boots: int
    evictions: int
    displaced: int
    gpu_shares: dict[Use, float]
    plan_ms: tuple[float, float, float]
    """Mean, 99th percentile, worst."""
    by_boot: tuple[float, ...]
    """Mean wait of the calls of each of `CLASSES`."""
    curve: tuple[float, ...]
    """The wait of every hundredth call, in the order of waiting."""

    def line(self) -> str:
        parts = " ".join(f"p{share * 100:g} {value:.1f}" for share, value in self.percentiles.items())
        plan = "/".join(f"{value:.1f}" for value in self.plan_ms)
        return f"{self.policy} (seed {self.seed}): {self.calls} calls, mean {self.mean:.2f} s, {parts}, plan {plan} ms"


def keep(summary: Summary, path: Path) -> None:
    """One more line of a file: at full size a policy takes long, and each may have a process of its own."""
    with path.open("ab") as file:
        file.write(orjson.dumps(asdict(summary), option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE))


def kept(path: Path) -> list[Summary]:
    """Those of all processes so far."""
    return [_summary(orjson.loads(line)) for line in path.read_bytes().splitlines()]


def _summary(values: dict[str, Any]) -> Summary:
    percentiles = {float(share): wait for share, wait in values.pop("percentiles").items()}
    gpu_shares = {Use(use): share for use, share in values.pop("gpu_shares").items()}
    return Summary(**values, percentiles=percentiles, gpu_shares=gpu_shares)


def summarize(outcome: Outcome, models: list[Model], scale: Scale, seed: int, warm_up: float) -> Summary:
    counted = [number for number, moment in enumerate(outcome.arrived) if moment >= warm_up]
    waits = sorted(outcome.waited[number] for number in counted)
    classes: list[list[float]] = [[] for _ in CLASSES]
    for number in counted:
        boot = models[outcome.model[number]].boot_seconds
        classes[next(place for place, limit in enumerate(CLASSES) if boot <= limit)].append(outcome.waited[number])
    plans = sorted(outcome.plan_ms) or [0.0]
    total = scale.gpus * scale.seconds
    return Summary(
        policy=outcome.policy,
        seed=seed,
        calls=len(waits),
        mean=_mean(waits),
        percentiles={share: at(waits, share) for share in (0.5, 0.9, 0.99)},
        worst=waits[-1],
        noticed=sum(wait > _NOTICED_SECONDS for wait in waits) / len(waits),
        unserved=outcome.unserved,
        boots=outcome.boots,
        evictions=outcome.evictions,
        displaced=outcome.displaced,
        gpu_shares={use: seconds / total for use, seconds in outcome.gpu_seconds.items()},
        plan_ms=(_mean(plans), at(plans, 0.99), plans[-1]),
        by_boot=tuple(_mean(each) for each in classes),
        curve=tuple(at(waits, share / 100) for share in range(100)),
    )


def at(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def table(found: list[Summary], scale: Scale) -> Table:
    title = f"{scale.gpus} GPUs, {scale.models} Versions, {scale.hours:g} h"
    columns = ("policy", "seed", "mean wait s", "p50", "p90", "p99", "max", "> 1 s", "boots", "evicted")
    made = Table(*columns, *(f"GPU {use}" for use in Use), "pass ms", title=title)
    for one in found:
        made.add_row(
            one.policy,
            str(one.seed),
            f"{one.mean:.2f}",
            *(f"{value:.1f}" for value in one.percentiles.values()),
            f"{one.worst:.0f}",
            f"{one.noticed:.0%}",
            str(one.boots),
            str(one.evictions + one.displaced),
            *(f"{one.gpu_shares[use]:.0%}" for use in Use),
            f"{one.plan_ms[0]:.2f}",
        )
    return made
