"""What takes the database and the payment provider in turn: never a transaction open while the provider is asked.

Every step may be cut off anywhere. The row is there before the provider hears of it, its id is the provider's
idempotency key, and `settle` asks after whatever has been pending for a while.
"""

from sqlalchemy import Row

from core.database import Database
from core.errors import Unavailable
from core.log import get_logger
from core.payments import payment_methods, payments, recharges
from core.payments.payments import PaymentProvider, Told, TopUpKind, TopUpStatus
from core.people import audit
from core.people.audit import Actor

log = get_logger()

#: Longer than a call to the provider takes: younger ones may still be on their way.
ASK_AFTER_SECONDS = 60
#: Stripe knows an idempotency key for 24 hours. After that the same call could charge again.
REPEAT_SECONDS = 20 * 3600
#: What the provider does not know by then, it never heard of. A page to pay on is open for an hour.
UNKNOWN_SECONDS = {TopUpKind.CHECKOUT: 2 * 3600, TopUpKind.RECHARGE: 24 * 3600}


async def checkout(
    database: Database,
    provider: PaymentProvider,
    account: Row,
    id: str,
    amount_nanos: int,
    success_url: str,
    cancel_url: str,
) -> tuple[Row, str]:
    """A top-up, and where its owner pays it. The same `id` again is the same page."""
    async with database.transaction() as tx:
        row = await payments.start(
            tx, id, account.id, TopUpKind.CHECKOUT, amount_nanos, provider.name, account.username
        )
        method = await payment_methods.get(tx, account.id)
    customer = method.customer if method else await provider.customer(account.id, account.username)
    page = await provider.checkout(row, customer, success_url, cancel_url)
    async with database.transaction() as tx:
        await payment_methods.introduce(tx, account.id, provider.name, customer)
        await payments.refer(tx, row.id, page.reference)
    return row, page.url


async def hear(database: Database, provider: PaymentProvider, told: Told) -> None:
    """Asks about what an event is about, and writes down the answer: events come late, twice and in any order."""
    if told.reference is None:
        return
    async with database.autocommit() as tx:
        if await payments.is_known(tx, provider.name, told.id):
            return
    payment = await provider.payment(told.reference)
    if payment is None:
        return
    with audit.acting(Actor(provider.name)):
        async with database.transaction() as tx:
            await payments.record(tx, provider.name, payment, told)


async def recharge(database: Database, provider: PaymentProvider, account_id: str) -> None:
    """Charges the saved method, if that is due."""
    with audit.acting(Actor(recharges.ACTOR)):
        async with database.transaction() as tx:
            started = await recharges.start(tx, account_id, provider.name)
        if started is None:
            return
        row, method = started
        log.info("recharging", account=account_id, top_up=row.id, amount_nanos=row.amount_nanos)
        payment = await provider.charge(row, method.customer, method.method)
        if payment is not None:
            async with database.transaction() as tx:
                await payments.record(tx, provider.name, payment)


async def settle(
    database: Database, provider: PaymentProvider, account_id: str, after_seconds: float = ASK_AFTER_SECONDS
) -> None:
    """Finds out what became of top-ups that have been pending for a while: their event, or their process, was lost."""
    async with database.autocommit() as tx:
        rows = await payments.pending_since(tx, after_seconds, account_id)
    with audit.acting(Actor(provider.name)):
        for row in rows:
            try:
                await _ask(database, provider, row)
            except Unavailable as error:
                log.warning("top-up not settled, will ask again", top_up=row.id, error=str(error))


async def _ask(database: Database, provider: PaymentProvider, row: Row) -> None:
    payment = await _payment_of(database, provider, row)
    async with database.transaction() as tx:
        if payment is not None:
            await payments.record(tx, provider.name, payment)
        elif row.age_seconds > UNKNOWN_SECONDS[TopUpKind(row.kind)]:
            is_checkout = row.kind == TopUpKind.CHECKOUT
            status = TopUpStatus.EXPIRED if is_checkout else TopUpStatus.FAILED
            await payments.give_up(tx, row.id, status, "The provider does not know of it.")


async def _payment_of(database: Database, provider: PaymentProvider, row: Row) -> payments.Payment | None:
    if row.reference is not None:
        return await provider.payment(row.reference)
    if row.kind == TopUpKind.CHECKOUT:
        # Nobody was ever shown its page, unless an event has said otherwise.
        return None
    async with database.autocommit() as tx:
        method = await payment_methods.get(tx, row.account_id)
    if method.method is None or method.recharge_below_nanos is None or row.age_seconds > REPEAT_SECONDS:
        # Its owner has switched it off meanwhile, or it is too late: what was not charged must not be charged now.
        return await provider.find(row, method.customer)
    return await provider.charge(row, method.customer, method.method)


async def forget(database: Database, provider: PaymentProvider, account_id: str) -> None:
    """Lets go of the saved method, there and here, if there is one."""
    async with database.autocommit() as tx:
        row = await payment_methods.get(tx, account_id)
    if row is None or row.method is None:
        return
    await provider.forget(row.method)
    async with database.transaction() as tx:
        await payment_methods.forget(tx, account_id, row.method)
