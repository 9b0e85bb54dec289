"""What moves money, one deed each: a verb as the platform calls it, and what the books say once it has succeeded."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from sqlalchemy import Row, func, select, update

from core import predictions, unstarted
from core.catalog import Runnable
from core.database import Direct, Transaction, seconds_from_now
from core.lifecycle import FailureCode, PredictionStatus
from core.money import credits, folding, holds, prices, refunds, wallets
from core.money.pricing import MICROS_PER_SECOND, MOST_CHARGE_NANOS, unit_lines
from core.predictions import Outcome, Request
from core.tables import Credit

S = PredictionStatus
METRICS = ("image_count", "video_seconds")
MAX_LIVE = 6
_MOST_MICROS = 30 * 24 * 3600 * MICROS_PER_SECOND


@dataclass
class Purse:
    """What an Account has been given by hand, less what was taken; and what its runs were charged."""

    id: str
    limit: int | None
    may_owe: bool = False
    """Somebody has let it spend more than its limit: by an extension at any rate, or by taking money out."""
    put_in: int = 0
    charged: int = 0


@dataclass
class Run:
    id: str
    purse: Purse
    runnable: Runnable
    hold: int | None
    row: Any = None
    """As it was after the last step."""
    price: int | None = None
    unit_prices: dict[str, int] | None = None
    micros: int | None = None
    counted: dict[str, Fraction] = field(default_factory=dict)

    @property
    def amount(self) -> int:
        """What it ran, at the prices of its start: independent of `core.money.pricing`."""
        if self.unit_prices is not None:
            lines = (int(self.counted.get(metric, 0) * nanos) for metric, nanos in self.unit_prices.items())
            return sum(min(line, MOST_CHARGE_NANOS) for line in lines)
        return min(int(Fraction(self.micros * self.price, MICROS_PER_SECOND)), MOST_CHARGE_NANOS)

    @property
    def waived(self) -> int:
        return 0 if self.hold is None else max(0, self.amount - self.hold)


@dataclass
class Deed:
    """A verb, and what the books say when it has succeeded."""

    verb: Callable[[Transaction | Direct], Awaitable[Any]]
    settle: Callable[[Any], None] = lambda _: None
    comes_first: bool = False
    """What it did was before the end of the run that it shares with another deed, or it did nothing."""
    is_direct: bool = False
    """It is one statement, and its own transaction."""
    may_clash: bool = True
    """What it did and what it was done beside can be told apart."""
    sets_aside: tuple[Purse, int] | None = None
    """So much must be there, and is refused if it is not."""


class Deeds:
    """What the machine knows, and what may be done next: `which` of the Accounts or runs, and how much. None: there is
    nothing to do it to."""

    purses: list[Purse]
    runnables: list[Runnable]
    runs: dict[str, Run]
    book: dict[tuple[str, str, str | None], int | None]
    """(subject, metric, Account): what a unit costs from now on; None: its own price has ended."""
    instances: dict[str, str]
    boot_id: str
    do: Callable[..., Any]

    def purse_of(self, which: int) -> Purse:
        return self.purses[which % len(self.purses)]

    def run_of(self, which: int) -> Run | None:
        """One of those that live."""
        live = self.live()
        return live[which % len(live)] if live else None

    def live(self) -> list[Run]:
        return [run for run in self.runs.values() if not S(run.row.status).is_terminal]

    def create(self, which: int, amount: int, flag: bool) -> Deed | None:
        purse, runnable = self.purse_of(which), self.runnables[which % 3 % 2]
        if len(self.live()) >= MAX_LIVE:
            return None
        hold = None
        if purse.limit is not None:
            of = (purse.id, runnable.model, runnable.version_id, runnable.hardware_sku)
            hold = self.do(holds.estimate, *of) if flag else amount if amount > 10**10 else 1 + amount % 10**7
        tags = {"team": "a", "step": str(amount % 3)} if flag else None
        deadline = -1.0 if amount == 1 else None
        request = Request(purse.id, runnable, {"text": "x"}, tags=tags, hold_nanos=hold, deadline_seconds=deadline)

        def settle(row: Row) -> None:
            self.runs[row.id] = Run(row.id, purse, runnable, hold, row)

        sets_aside = None if hold is None else (purse, hold)
        return Deed(
            lambda tx: predictions.create(tx, request), settle, comes_first=True, is_direct=True, sets_aside=sets_aside
        )

    def start(self, which: int, amount: int, flag: bool) -> Deed | None:
        waiting = [run for run in self.live() if run.row.status == S.STARTING]
        if not waiting:
            return self.create(which, amount, flag)
        run = waiting[which % len(waiting)]
        holder = (self.instances[run.runnable.target], self.boot_id)

        def settle(row: Row | None) -> None:
            if row is None:
                return
            run.price = self.standing(run.runnable.hardware_sku, prices.SECOND, run.purse)
            standing = {metric: self.standing(run.runnable.model, metric, run.purse) for metric in METRICS}
            standing = {metric: nanos for metric, nanos in standing.items() if nanos is not None}
            run.unit_prices = standing or None
            assert row.price_nanos_per_second == run.price
            assert (row.unit_prices and {metric: p["nanos"] for metric, p in row.unit_prices.items()}) == (
                run.unit_prices
            )

        return Deed(lambda tx: predictions.start(tx, run.id, *holder), settle, comes_first=True, is_direct=True)

    def standing(self, subject: str, metric: str, purse: Purse) -> int | None:
        own = self.book.get((subject, metric, purse.id))
        return own if own is not None else self.book.get((subject, metric, None))

    def finish(self, which: int, amount: int, flag: bool) -> Deed | None:
        running = [run for run in self.live() if run.row.status == S.PROCESSING]
        if not running:
            return self.start(which, amount, flag)
        return self.finishing(running[which % len(running)], amount, flag)

    def finishing(self, run: Run, amount: int, flag: bool) -> Deed:
        micros = None if amount == 1 else amount % _MOST_MICROS
        counted = {"image_count": amount % 60, "video_seconds": amount % 1000 / 8} if flag else {}
        units = None
        if run.row.unit_prices is not None and micros is not None:
            units = unit_lines(run.row.unit_prices, counted)
        outcome = Outcome(S.SUCCEEDED if flag else S.FAILED, "done", micros=micros, units=units)
        attempt = run.row.attempt

        def settle(_: None) -> None:
            if micros is None:
                return
            run.micros = micros
            run.counted = {name: Fraction(count) for name, count in counted.items()}
            run.purse.charged += run.amount - run.waived

        return Deed(lambda tx: predictions.finish(tx, run.id, attempt, outcome), settle, is_direct=True)

    def ending(self, run: Run) -> Deed:
        """Of what is left when nothing more is to happen."""
        if run.row.status == S.PROCESSING:
            return self.finishing(run, 1_234_567, True)
        return Deed(lambda tx: predictions.cancel(tx, run.purse.id, run.id))

    def cancel(self, which: int, amount: int, flag: bool) -> Deed | None:
        run = self.run_of(which)
        return run and Deed(lambda tx: predictions.cancel(tx, run.purse.id, run.id))

    def interrupt(self, which: int, amount: int, flag: bool) -> Deed | None:
        run = self.run_of(which)
        return run and Deed(lambda tx: predictions.interrupt(tx, run.id, run.row.attempt, flag))

    def refuse(self, which: int, amount: int, flag: bool) -> Deed | None:
        target = self.runnables[which % 2].target
        return Deed(lambda tx: unstarted.refuse(tx, target, FailureCode.SETUP, "It cannot run.")) if flag else None

    def expire(self, which: int, amount: int, flag: bool) -> Deed | None:
        return Deed(unstarted.expire)

    def extend(self, which: int, amount: int, flag: bool) -> Deed | None:
        run = self.run_of(which)
        if run is None:
            return None
        at_any_rate, nanos, attempt = flag and run.purse is self.purses[1], max(1, amount // 100), run.row.attempt

        def settle(extended: bool) -> None:
            if extended:
                run.hold += nanos

        return Deed(lambda tx: holds.extend(tx, run.id, attempt, nanos, at_any_rate), settle, comes_first=True)

    def put_in(self, which: int, amount: int, flag: bool) -> Deed | None:
        purse = self.purse_of(which)
        kind = credits.PAID if which % 3 else credits.PROMOTIONAL
        terms = {"kind": kind, "priority": which % 3 or None, "expires_at": None}

        async def verb(tx: Transaction) -> None:
            if flag:
                terms["expires_at"] = await tx.scalar(select(seconds_from_now(3600)))
            await credits.add(tx, purse.id, amount_nanos=amount, reason="because", actor="somebody", **terms)

        def settle(_: None) -> None:
            purse.put_in += amount

        return Deed(verb, settle)

    def adjust(self, which: int, amount: int, flag: bool) -> Deed | None:
        purse = self.purse_of(which)
        at_any_rate = flag and purse is self.purses[1]
        taken = {"amount_nanos": amount, "reason": "a slip", "actor": "somebody", "at_any_rate": at_any_rate}

        def settle(_: None) -> None:
            purse.put_in -= amount

        return Deed(lambda tx: credits.adjust(tx, purse.id, **taken), settle)

    def expire_credit(self, which: int, amount: int, flag: bool) -> Deed | None:
        """An hour passes for one of them, and then for all that is due."""
        purse = self.purse_of(which)
        oldest = select(Credit.id).where(Credit.account_id == purse.id, Credit.expires_at > func.now())
        oldest = oldest.order_by(Credit.created_at).limit(1).scalar_subquery()

        async def verb(tx: Transaction) -> None:
            await wallets.lock(tx, purse.id)
            await tx.execute(update(Credit).where(Credit.id == oldest).values(expires_at=seconds_from_now(-1)))
            await credits.expire(tx)

        return Deed(verb)

    def refund(self, which: int, amount: int, flag: bool) -> Deed | None:
        charged = [run for run in self.runs.values() if run.micros is not None]
        if not charged:
            return None
        run = charged[-1 - which % min(4, len(charged))]

        async def verb(tx: Transaction) -> int:
            usage = await refunds.usage_of(tx, run.id)
            nanos = None if flag else min(amount, 10**12)
            return await refunds.give(tx, usage, reason="it was bad", actor="somebody", amount_nanos=nanos)

        def settle(given: int) -> None:
            run.purse.put_in += given

        return Deed(verb, settle)

    def fold(self, which: int, amount: int, flag: bool) -> Deed | None:
        account, limit = self.purse_of(which).id if flag else None, 1 + amount % 4
        return Deed(lambda tx: folding.fold(tx, account, limit))

    def reprice(self, which: int, amount: int, flag: bool) -> Deed | None:
        """By the second or by the unit, for everybody or for one, with volume terms, or no price any more."""
        by_second = which % 2 == 0
        runnable = self.runnables[which // 2 % 2 if by_second else 1]
        nanos = [None, 0, 1, 725_000, 3_000_000, 10**9][amount % 6]
        purse = self.purse_of(which // 3) if flag or nanos is None else None
        steps = [{"above": 1 + amount % 40, "nanos_per_unit": (nanos or 0) // (1 + amount % 3)}] if amount % 2 else []
        metric = prices.SECOND if by_second else METRICS[which // 2 % 2]
        return self.repricing(runnable, metric, purse, nanos, steps=steps, free_units=amount // 10 % 3 * 5)

    def repricing(self, runnable: Runnable, metric: str, purse: Purse | None, nanos: int | None, **terms: Any) -> Deed:
        by_second, owner = metric == prices.SECOND, purse and purse.id
        kind, subject = (prices.HARDWARE, runnable.hardware_sku) if by_second else (prices.MODEL, runnable.model)
        price = {"kind": kind, "subject": subject, "metric": metric, "account_id": owner, "nanos_per_unit": nanos}

        def settle(_: Row) -> None:
            self.book[subject, metric, owner] = nanos

        return Deed(lambda tx: prices.put(tx, **price, **terms, created_by="somebody"), settle, may_clash=False)

    def change_terms(self, which: int, amount: int, flag: bool) -> Deed | None:
        """Of one Account only: whoever runs without limit and then has one may owe more than it."""
        purse = self.purses[3]
        limit = [None, 0, 10**7][which % 3]
        terms = {"credit_limit_nanos": limit, "when_empty": "finish" if flag else "stop"}

        def settle(_: Row) -> None:
            purse.limit = limit

        return Deed(lambda tx: wallets.set_terms(tx, purse.id, **terms), settle, may_clash=False)
