"""People who pay, a provider that stumbles, events in any order, and jobs that die: in every interleaving."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.errors import Conflict, Unavailable
from core.money import wallets
from tests.support.paying import Till, dollars

INDEX = st.integers(0, 10**6)
#: What becomes of the next call to Stripe.
FAULT = st.sampled_from([None, None, "lost_answers", "refusals"])


class PaymentMachine(RuleBasedStateMachine):
    """One account that recharges below 10 dollars up to 50. At the end everything arrives that is on its way."""

    run: ClassVar[Any]
    till: ClassVar[Till]

    @initialize()
    def begin(self) -> None:
        stripe = self.till.stripe
        stripe.declines = False
        stripe.events.clear()
        self.account = self.run(self.till.saved())
        self.spent = 5
        self.customer = self.run(self.till.method(self.account)).customer
        self.told = 0

    # --- people ---

    @rule(amount=st.integers(5, 100), fault=FAULT)
    def open_page(self, amount: int, fault: str | None) -> None:
        # Twenty are open already.
        with self._stumbling(fault), suppress(Conflict):
            self.run(self.till.checkout(self.account, amount))

    @precondition(lambda self: self._open())
    @rule(index=INDEX)
    def pay(self, index: int) -> None:
        self.till.stripe.pay(self._pick(self._open(), index)["id"])

    @precondition(lambda self: self._open())
    @rule(index=INDEX)
    def leave(self, index: int) -> None:
        self.till.stripe.expire(self._pick(self._open(), index)["id"])

    @rule(amount=st.integers(1, 60))
    def spend(self, amount: int) -> None:
        self.spent += amount
        self.run(self._spend(amount))

    @precondition(lambda self: self._refundable())
    @rule(index=INDEX, disputes=st.booleans())
    def take_back(self, index: int, disputes: bool) -> None:
        charge = self._pick(self._refundable(), index)
        intent = charge["payment_intent"]
        if disputes:
            self.till.stripe.dispute(intent)
        else:
            self.till.stripe.refund(intent, 100)

    @rule()
    def wait(self) -> None:
        self.run(self.till.resume(self.account))

    # --- Stripe ---

    @rule(declines=st.booleans())
    def change_cards(self, declines: bool) -> None:
        self.till.stripe.declines = declines

    @precondition(lambda self: self.till.stripe.events)
    @rule(index=INDEX, fault=FAULT)
    def hear(self, index: int, fault: str | None) -> None:
        with self._stumbling(fault):
            self.run(self.till.hear(self._pick(self.till.stripe.events, index)))

    # --- jobs ---

    @rule(fault=FAULT)
    def recharge(self, fault: str | None) -> None:
        """With a fault it is cut off in the middle."""
        with self._stumbling(fault):
            self.run(self.till.recharge(self.account))

    @rule(fault=FAULT)
    def settle(self, fault: str | None) -> None:
        with self._stumbling(fault):
            self.run(self.till.settle(self.account))

    # --- what holds ---

    @invariant()
    def nothing_is_credited_that_was_not_taken(self) -> None:
        if hasattr(self, "account"):
            taken = sum(charge["amount"] for charge in self._charges())
            credited = sum(credit.amount_nanos for credit in self.run(self.till.credits(self.account)))
            assert credited <= dollars(taken / 100)

    def teardown(self) -> None:
        if not hasattr(self, "account"):
            return
        stripe = self.till.stripe
        for session in self._open():
            stripe.expire(session["id"])
        self.run(self.till.hear_everything())
        self.run(self.till.settle(self.account))
        kept = stripe.kept_cents(self.customer)
        assert self.run(self.till.paid_in(self.account)) == kept
        assert self.run(self.till.balance(self.account)) == dollars(kept / 100) - dollars(self.spent)
        credits = self.run(self.till.credits(self.account))
        assert sum(credit.amount_nanos for credit in credits) == dollars(
            sum(charge["amount"] for charge in self._charges()) / 100
        )

    # --- its insides ---

    @contextmanager
    def _stumbling(self, fault: str | None) -> Iterator[None]:
        if fault:
            setattr(self.till.stripe, fault, 1)
        with suppress(Unavailable):
            yield
        self.till.stripe.lost_answers = self.till.stripe.refusals = 0

    def _own(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.till.stripe.of(kind) if each["customer"] == self.customer]

    def _charges(self) -> list[dict[str, Any]]:
        return [charge for charge in self._own("charge") if charge["paid"]]

    def _open(self) -> list[dict[str, Any]]:
        return [session for session in self._own("checkout.session") if session["status"] == "open"]

    def _refundable(self) -> list[dict[str, Any]]:
        return [
            charge
            for charge in self._charges()
            if not charge["disputed"] and charge["amount_refunded"] + 100 < charge["amount"]
        ]

    async def _spend(self, amount: int) -> None:
        async with self.till.database.transaction() as tx:
            await wallets.add(tx, self.account.id, -dollars(amount))

    @staticmethod
    def _pick(choices: list[Any], index: int) -> Any:
        return choices[index % len(choices)]
