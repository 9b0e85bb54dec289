from datetime import date

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables.base import CreatedAt, Id, Json, Moment, Nanos, Table


class Wallet(Table):
    """What an Account may still spend: balance + credit limit - held. A projection of the ledger, less its postings."""

    __tablename__ = "wallets"
    # Updated at every create: leave room for that on its page.
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    balance_nanos: Mapped[Nanos] = mapped_column(server_default="0")
    held_nanos: Mapped[Nanos] = mapped_column(server_default="0")
    """Set aside for what waits and runs."""
    credit_limit_nanos: Mapped[Nanos | None]
    """So much may be owed: 0 is prepaid. None: without limit, and nothing is held."""
    when_empty: Mapped[str] = mapped_column(server_default="stop")
    """`stop`: what runs is canceled once its money is used up. `finish`: it may end, and the rest is owed."""
    low_balance_nanos: Mapped[Nanos | None]
    """Below this its owner is told."""
    is_low: Mapped[bool] = mapped_column(server_default="false")
    """Its owner has been told, and it has not risen above since."""


class WalletPosting(Table):
    """What a wallet's numbers still lack. Ends write these, so that they never wait for the wallet's row; `fold` takes
    them off again and adds them up, many at a time."""

    __tablename__ = "wallet_postings"
    __table_args__ = (Index(None, "account_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    amount_nanos: Mapped[Nanos]
    released_nanos: Mapped[Nanos]
    usage_record_id: Mapped[str | None]


class Credit(Table):
    """Money put into a wallet, as one piece with its own conditions. `remaining_nanos` is a projection of its burns."""

    __tablename__ = "credits"
    __table_args__ = (
        Index("ix_credits_left", "account_id", postgresql_where=text("remaining_nanos > 0")),
        Index(None, "account_id", "created_at"),
    )

    id: Mapped[Id]
    """Also the id of the ledger transaction that brought it."""
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    """`paid`, `promotional` or `refund`."""
    amount_nanos: Mapped[Nanos]
    remaining_nanos: Mapped[Nanos]
    priority: Mapped[int] = mapped_column(Integer, server_default="100")
    """The lowest is used first; then what expires soonest; then the oldest."""
    expires_at: Mapped[Moment | None]
    expired_nanos: Mapped[Nanos] = mapped_column(server_default="0")
    reason: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[CreatedAt]


class CreditBurn(Table):
    """How much of a credit was used on a day."""

    __tablename__ = "credit_burns"

    credit_id: Mapped[str] = mapped_column(ForeignKey("credits.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    amount_nanos: Mapped[Nanos]


class SpendLimit(Table):
    """What may be spent in a calendar month (UTC): by an Account, through one of its Tokens, or on one Model."""

    __tablename__ = "spend_limits"
    __table_args__ = (Index(None, "account_id"),)

    id: Mapped[Id]
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    scope: Mapped[str]
    """`account`, `token` or `model`."""
    subject: Mapped[str] = mapped_column(server_default="")
    """The Token's id, or `owner/name`."""
    limit_nanos: Mapped[Nanos]
    thresholds: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    """Percentages at which its owner is told."""
    stops: Mapped[bool] = mapped_column(server_default="true")
    """Whether nothing new starts once it is reached."""
    month: Mapped[date | None]
    spent_nanos: Mapped[Nanos] = mapped_column(server_default="0")
    """In `month`, as of the last fold."""
    created_at: Mapped[CreatedAt]


class Alert(Table):
    """Something about money that its owner is told: on the pages, and by webhook."""

    __tablename__ = "alerts"
    __table_args__ = (Index(None, "account_id", "created_at"),)

    id: Mapped[Id]
    """Follows from what it tells, so that it is told once."""
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.id"))
    kind: Mapped[str]
    """`spend_limit`, `low_balance`, `insufficient_funds`, `recharge_failed`, `payment_reversed`, `payment_mismatch`."""
    message: Mapped[str]
    details: Mapped[Json]
    created_at: Mapped[CreatedAt]
    seen_at: Mapped[Moment | None]
