"""Any interleaving of the lifecycles of nodes, Instances and predictions ends in legal states, all of them told."""

import asyncio

from hypothesis import HealthCheck
from hypothesis import settings as bounds
from hypothesis.stateful import run_state_machine_as_test

from core.resources import open_resources
from core.settings import Settings
from tests.core.fleet_machine import FleetMachine


def test_any_interleaving_of_lifecycles_ends_in_legal_states_and_is_told(settings: Settings) -> None:
    # A loop and connections of its own, as in test_prediction_machine.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = open_resources(settings)
        machine = type("Machine", (FleetMachine,), {"run": runner.run, "resources": runner.run(opened.__aenter__())})
        try:
            run_state_machine_as_test(
                machine,
                settings=bounds(
                    max_examples=15,
                    stateful_step_count=50,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
