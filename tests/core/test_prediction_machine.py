"""Any interleaving of the verbs of a prediction ends in legal states, charged once, its webhook owed once."""

import asyncio

from hypothesis import HealthCheck
from hypothesis import settings as bounds
from hypothesis.stateful import run_state_machine_as_test

from core.resources import open_resources
from core.settings import Settings
from tests.core.prediction_machine import PredictionMachine


def test_any_interleaving_ends_in_legal_states_charged_once_and_owed_once(settings: Settings) -> None:
    # A loop and connections of its own: Hypothesis is synchronous, and runs between the tests' own loop's turns.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = open_resources(settings)
        machine = type(
            "Machine", (PredictionMachine,), {"run": runner.run, "resources": runner.run(opened.__aenter__())}
        )
        try:
            run_state_machine_as_test(
                machine,
                settings=bounds(
                    max_examples=30,
                    stateful_step_count=50,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(opened.__aexit__(None, None, None))
