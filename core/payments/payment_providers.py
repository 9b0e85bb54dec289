"""Which payment provider this server has: Stripe, or none."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.payments.payments import PaymentProvider
from core.settings import Settings


@asynccontextmanager
async def open_payments(settings: Settings) -> AsyncIterator[PaymentProvider | None]:
    """None where the operator has set no key."""
    if not settings.stripe_secret_key:
        yield None
        return
    # By name, so that whoever takes no cards does not pay for the library: 33 MB, and a third of a second.
    provider = importlib.import_module("core.payments.stripe_payments").StripePayments(settings)
    try:
        yield provider
    finally:
        await provider.close()
