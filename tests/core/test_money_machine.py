"""Whatever happens to money, in whatever order, two at a time or broken off, all books agree afterwards."""

import asyncio

import uvloop
from hypothesis import HealthCheck, Phase
from hypothesis import settings as bounds
from hypothesis.stateful import run_state_machine_as_test

from core.resources import open_resources
from core.settings import Settings
from tests.core.money_machine import MoneyMachine

EXAMPLES, STEPS = 33, 330
ENOUGH = 10_000
#: Hypothesis cuts off what draws too much: how many steps remain of an example is up to chance.
MORE_EXAMPLES, MOST_ROUNDS = 4, 12


def test_ten_thousand_steps_lose_no_nanodollar_and_spend_none_that_is_not_there(settings: Settings) -> None:
    # A loop and connections of its own: Hypothesis is synchronous, and runs between the tests' own loop's turns.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = open_resources(settings)
        # Not `Runner.run`, which spends more on signals than a short statement takes.
        run = staticmethod(runner.get_loop().run_until_complete)
        machine = type("Machine", (MoneyMachine,), {"run": run, "resources": runner.run(opened.__aenter__())})
        try:
            examine(machine, EXAMPLES)
            for _ in range(MOST_ROUNDS):
                if machine.steps < ENOUGH:
                    examine(machine, MORE_EXAMPLES)
        finally:
            runner.run(opened.__aexit__(None, None, None))
    assert machine.steps >= ENOUGH


def examine(machine: type[MoneyMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=bounds(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            # Making a failure smaller takes minutes; add `Phase.shrink` to look at one.
            phases=[Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
