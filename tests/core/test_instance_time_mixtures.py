"""Any mixture of reports, clocks, prices and ends charges what was counted, once, and gives back what was held."""

import asyncio

from hypothesis import HealthCheck
from hypothesis import settings as bounds
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import text

from core.resources import Resources, open_resources
from core.settings import Settings
from tests.core.instance_time_machine import SCRIPTED_NOW, InstanceTimeMachine


async def script_the_clock(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        for statement in SCRIPTED_NOW.split(";"):
            await tx.execute(text(statement))


async def forget_the_script(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        await tx.execute(text("DROP SCHEMA scripted CASCADE"))


def test_any_mixture_charges_what_was_counted_once_and_gives_back_what_was_held(settings: Settings) -> None:
    # A loop and connections of its own: Hypothesis is synchronous, and runs between the tests' own loop's turns.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = open_resources(settings)
        resources = runner.run(opened.__aenter__())
        machine = type("Machine", (InstanceTimeMachine,), {"run": runner.run, "resources": resources})
        try:
            runner.run(script_the_clock(resources))
            run_state_machine_as_test(
                machine,
                settings=bounds(
                    max_examples=25,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(forget_the_script(resources))
            runner.run(opened.__aexit__(None, None, None))
