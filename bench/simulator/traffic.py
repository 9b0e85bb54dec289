"""A day of calls, seeded: which models there are, when somebody calls them, and for how long each call runs.

Knows nothing of Instances. The same seed gives every policy the same models and the same calls.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

DAY_SECONDS = 86_400.0
_HOUR_SECONDS = 3_600.0

#: Of all models, those that are called by a program at equal distances, be it a cron job or a health check.
_PERIODIC_SHARE = 0.15
_PERIODS = (300.0, 600.0, 900.0, 1800.0, 3600.0)
#: By how much a program's call is off its beat, as a share of its period.
_JITTER = 0.01
_BEAT_CALLS = (1, 1, 1, 2, 4)
#: A person calls several times, thinks in between, and goes away.
_SESSION_CALLS = (2.0, 12.0)
_THINK_SECONDS = (5.0, 60.0)
#: By day so much more, and by night so much less, than on average.
_SWING = 0.8
#: Most people live where the others do; the rest anywhere.
_SAME_ZONE_SHARE = 0.7
_PEAK_HOUR = 15.0
_RUN_SECONDS = (2.0, 90.0)
_RUN_SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything there is."""

    nodes: int
    gpus_per_node: int
    models: int
    load: float
    """The share of all GPUs that the calls alone keep busy, on average over the day."""
    zipf: float = 0.9
    boot_seconds: tuple[float, float] = (2.0, 120.0)
    gpu_counts: tuple[int, ...] = (1,)
    """How many GPUs a model may need: one of these, each as likely."""
    begin_hour: float = 0.0
    """Of the day."""
    hours: float = 24.0

    @property
    def gpus(self) -> int:
        return self.nodes * self.gpus_per_node

    @property
    def seconds(self) -> float:
        return self.hours * _HOUR_SECONDS


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    gpus: int
    boot_seconds: float
    run_seconds: float
    sessions_per_second: float
    session_calls: float
    think_seconds: float
    peak_hour: float
    period: float | None
    beat_calls: int

    @property
    def calls_per_second(self) -> float:
        if self.period is not None:
            return self.beat_calls / self.period
        return self.sessions_per_second * self.session_calls

    @property
    def load(self) -> float:
        """GPUs it keeps busy, on average."""
        return self.calls_per_second * self.run_seconds * self.gpus


@dataclass(frozen=True, slots=True)
class Call:
    arrived: float
    model: int
    run_seconds: float


def models(scale: Scale, seed: int) -> list[Model]:
    """The first is called the most, the others after Zipf, and all together keep the wanted share of the GPUs busy."""
    chance = random.Random(f"models {seed}")
    drawn = [_model(chance, number, scale) for number in range(scale.models)]
    by_people = sum(model.load for model in drawn if model.period is None)
    by_programs = sum(model.load for model in drawn if model.period is not None)
    factor = max(0.0, scale.load * scale.gpus - by_programs) / by_people
    return [_called(model, model.sessions_per_second * factor) for model in drawn]


def _model(chance: random.Random, number: int, scale: Scale) -> Model:
    calls = chance.uniform(*_SESSION_CALLS)
    # The few models that everybody calls are not called by programs alone.
    is_periodic = number >= scale.models // 10 and chance.random() < _PERIODIC_SHARE
    return Model(
        name=f"model-{number}",
        gpus=chance.choice(scale.gpu_counts),
        boot_seconds=_log_uniform(chance, *scale.boot_seconds),
        run_seconds=_log_uniform(chance, *_RUN_SECONDS),
        sessions_per_second=(number + 1) ** -scale.zipf / calls,
        session_calls=calls,
        think_seconds=chance.uniform(*_THINK_SECONDS),
        peak_hour=_PEAK_HOUR if chance.random() < _SAME_ZONE_SHARE else chance.uniform(0.0, 24.0),
        period=chance.choice(_PERIODS) if is_periodic else None,
        beat_calls=chance.choice(_BEAT_CALLS),
    )


def _called(model: Model, sessions_per_second: float) -> Model:
    values = {name: getattr(model, name) for name in Model.__slots__}
    return Model(**{**values, "sessions_per_second": sessions_per_second})


def calls(scale: Scale, all_models: list[Model], seed: int) -> Iterator[Call]:
    """In the order of time, made an hour at a time."""
    chance = random.Random(f"calls {seed}")
    starts = [chance.uniform(0.0, model.period or 0.0) for model in all_models]
    later: list[Call] = []
    for hour in range(math.ceil(scale.hours)):
        begin, end = hour * _HOUR_SECONDS, (hour + 1) * _HOUR_SECONDS
        made = later
        for number, model in enumerate(all_models):
            if model.period is None:
                _add_sessions(made, chance, number, model, begin, scale.begin_hour)
            else:
                starts[number] = _add_beats(made, chance, number, model, starts[number], end)
        made.sort(key=lambda call: call.arrived)
        later = [call for call in made if call.arrived >= end]
        yield from (call for call in made if call.arrived < min(end, scale.seconds))


def _add_sessions(
    made: list[Call], chance: random.Random, number: int, model: Model, begin: float, begin_hour: float
) -> None:
    middle = begin_hour + begin / _HOUR_SECONDS + 0.5
    swing = 1.0 + _SWING * math.cos(2 * math.pi * (middle - model.peak_hour) / 24.0)
    rate = model.sessions_per_second * swing
    moment = begin + chance.expovariate(rate)
    while moment < begin + _HOUR_SECONDS:
        called = moment
        while True:
            made.append(Call(called, number, _run(chance, model)))
            if chance.random() * model.session_calls < 1.0:
                break
            called += chance.expovariate(1.0 / model.think_seconds)
        moment += chance.expovariate(rate)


def _add_beats(made: list[Call], chance: random.Random, number: int, model: Model, moment: float, end: float) -> float:
    """Returns when the first beat after the end comes."""
    while moment < end:
        for _ in range(model.beat_calls):
            late = abs(chance.gauss(0.0, model.period * _JITTER))
            made.append(Call(moment + late, number, _run(chance, model)))
        moment += model.period
    return moment


def _run(chance: random.Random, model: Model) -> float:
    return model.run_seconds * chance.lognormvariate(-(_RUN_SPREAD**2) / 2, _RUN_SPREAD)


def _log_uniform(chance: random.Random, low: float, high: float) -> float:
    return math.exp(chance.uniform(math.log(low), math.log(high)))
