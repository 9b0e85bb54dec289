"""What Accounts may spend. The ledger is the truth; a wallet is its sum so far, less what postings still add to it.

Whoever moves money by hand locks the wallet first, with which it is up to date; see `folding`.
"""

from sqlalchemy import BigInteger, Row, cast, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from core.database import Transaction
from core.errors import Invalid, NotFound
from core.money.folding import AT_ONCE, POSTING, fold
from core.money.holds import WALLET, spendable
from core.people import audit

#: What becomes of what runs once its money is used up: it is canceled, or may end and is owed.
STOP, FINISH = RULES = ("stop", "finish")
_PENDING = ("amount_nanos", "released_nanos")


async def open_wallet(tx: Transaction, account_id: str, credit_limit_nanos: int | None = None) -> None:
    """Every Account has one, from its beginning."""
    new = upsert(WALLET).values(account_id=account_id, credit_limit_nanos=credit_limit_nanos)
    await tx.execute(new.on_conflict_do_nothing(index_elements=["account_id"]))


async def get(tx: Transaction, account_id: str) -> Row:
    """The wallet as it is this moment, postings included: with `spendable_nanos`; that is None without a limit."""
    sums = (cast(func.coalesce(func.sum(POSTING.c[name]), 0), BigInteger).label(name) for name in _PENDING)
    pending = select(*sums).where(POSTING.c.account_id == account_id).subquery()
    balance = WALLET.c.balance_nanos + pending.c.amount_nanos
    held = WALLET.c.held_nanos - pending.c.released_nanos
    others = [c for c in WALLET.c if c.name not in ("balance_nanos", "held_nanos")]
    return await tx.one(
        select(
            *others,
            balance.label("balance_nanos"),
            held.label("held_nanos"),
            (balance + WALLET.c.credit_limit_nanos - held).label("spendable_nanos"),
        )
        .join_from(WALLET, pending, literal(True))
        .where(WALLET.c.account_id == account_id)
    )


async def lock(tx: Transaction, account_id: str) -> Row:
    """Keeps everyone else from its money until the end of the transaction; up to date. Raises `NotFound`."""
    locked = select(WALLET, spendable().label("spendable_nanos")).where(WALLET.c.account_id == account_id)
    if await tx.first(locked.with_for_update()) is None:
        raise NotFound("The requested account could not be found.")
    while await fold(tx, account_id) == AT_ONCE:
        pass
    return await tx.one(locked)


async def set_terms(
    tx: Transaction,
    account_id: str,
    *,
    credit_limit_nanos: int | None,
    when_empty: str = STOP,
    low_balance_nanos: int | None = None,
) -> Row:
    """How an Account pays: 0 is prepaid, so much on credit, or None, without limit. Raises `Invalid`, `NotFound`."""
    if when_empty not in RULES:
        raise Invalid("`when_empty` is `stop` or `finish`: whether what runs is canceled once its money is used up.")
    if credit_limit_nanos is not None and credit_limit_nanos < 0:
        raise Invalid("A credit limit is no less than 0, which is prepaid; leave it out for none.")
    before = await lock(tx, account_id)
    values = {
        "credit_limit_nanos": credit_limit_nanos,
        "when_empty": when_empty,
        "low_balance_nanos": low_balance_nanos,
        "is_low": False,
    }
    row = await tx.one(update(WALLET).where(WALLET.c.account_id == account_id).values(values).returning(WALLET))
    before, after = ({name: getattr(each, name) for name in values} for each in (before, row))
    await audit.record(
        tx, "wallet.set_terms", f"account:{account_id}", account_id=account_id, before=before, after=after
    )
    return row


async def add(tx: Transaction, account_id: str, nanos: int) -> None:
    """Moves the balance of a locked wallet; the ledger says why."""
    moved = update(WALLET).where(WALLET.c.account_id == account_id)
    await tx.execute(moved.values(balance_nanos=WALLET.c.balance_nanos + nanos))
