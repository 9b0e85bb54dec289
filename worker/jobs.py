"""What RQ calls: shells that open the resources and call one function. The only sync code besides migrations."""

import asyncio
from collections.abc import Awaitable, Callable

from core.database import Database
from core.payments import paying
from core.payments.payment_providers import open_payments
from core.payments.payments import PaymentProvider
from core.resources import Resources, open_resources
from core.settings import get_settings
from worker.invoices import making
from worker.preparation import prepare


def prepare_version(version_id: str) -> None:
    asyncio.run(_with_resources(prepare, version_id))


def make_invoices(account_id: str) -> None:
    asyncio.run(_with_resources(making.make_all, account_id))


def render_invoice(invoice_id: str) -> None:
    asyncio.run(_with_resources(making.keep_pdf, invoice_id))


async def _with_resources(verb: Callable[[Resources, str], Awaitable[None]], id: str) -> None:
    async with open_resources(get_settings()) as resources:
        await verb(resources, id)


def recharge(account_id: str) -> None:
    asyncio.run(_pay(paying.recharge, account_id))


def settle_top_ups(account_id: str) -> None:
    asyncio.run(_pay(paying.settle, account_id))


async def _pay(verb: Callable[[Database, PaymentProvider, str], Awaitable[None]], account_id: str) -> None:
    settings = get_settings()
    async with open_resources(settings) as resources, open_payments(settings) as provider:
        # Switched off since it was put in line.
        if provider is not None:
            await verb(resources.database, provider, account_id)
