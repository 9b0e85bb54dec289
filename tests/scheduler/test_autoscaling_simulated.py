"""A virtual morning on a few Nodes, with the real functions: the simulator itself refuses what must never be.

It raises where a GPU is given to two, a model gets more Instances than it may have, or one goes that works.
"""

import pytest

from bench.simulator.__main__ import simulate
from bench.simulator.fleet import Use
from bench.simulator.policies import POLICIES
from bench.simulator.report import Summary
from bench.simulator.traffic import Scale, calls, models

SCALE = Scale(nodes=5, gpus_per_node=8, models=25, load=0.2, gpu_counts=(1, 1, 1, 2, 2, 4), begin_hour=12.0, hours=3.0)


def morning(policy: str, hours: float = 3.0, seed: int = 1) -> Summary:
    scale = Scale(**{**{name: getattr(SCALE, name) for name in Scale.__slots__}, "hours": hours})
    return simulate(scale, seed, policy, between_passes=0.5, warm_up=hours * 600)


def test_with_the_same_gpus_and_calls_one_waits_less_than_where_the_least_recently_used_goes() -> None:
    millrace, lru = morning("millrace"), morning("lru")
    assert millrace.calls == lru.calls
    assert millrace.mean < lru.mean


@pytest.mark.parametrize("policy", POLICIES)
def test_gpus_do_one_thing_at_a_time_and_every_call_is_counted_under_every_policy(policy: str) -> None:
    found = morning(policy, hours=0.5)
    assert sum(found.gpu_shares.values()) == pytest.approx(1.0)
    assert all(share >= -1e-9 for share in found.gpu_shares.values())
    assert found.gpu_shares[Use.BUSY] > 0.0
    assert found.calls > 0
    assert found.boots > 0


def test_the_same_seed_is_the_same_day() -> None:
    first, second = (list(calls(SCALE, models(SCALE, 7), 7)) for _ in range(2))
    assert first == second
    assert first == sorted(first, key=lambda call: call.arrived)
