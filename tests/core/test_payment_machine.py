"""Whatever is lost, doubled, declined or cut off: in the end the wallet was credited what Stripe has taken."""

import asyncio

from hypothesis import HealthCheck
from hypothesis import settings as bounds
from hypothesis.stateful import run_state_machine_as_test

from core.resources import open_resources
from core.settings import Settings
from tests.core.payment_machine import PaymentMachine
from tests.support.paying import open_till


def test_any_interleaving_ends_with_what_stripe_has_taken(settings: Settings) -> None:
    # A loop and connections of its own, and a Stripe on it: Hypothesis is synchronous.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        opened = open_resources(settings)
        opened_till = open_till(runner.run(opened.__aenter__()))
        try:
            till = runner.run(opened_till.__aenter__())
            machine = type("Machine", (PaymentMachine,), {"run": runner.run, "till": till})
            run_state_machine_as_test(
                machine,
                settings=bounds(
                    max_examples=6,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            runner.run(opened_till.__aexit__(None, None, None))
            runner.run(opened.__aexit__(None, None, None))
