"""Stripe, the only payment provider so far: Checkout, saved methods, and its webhooks. The only importer of `stripe`.

What we keep there bears our name in its metadata, so that one Stripe account may serve others as well. An event is
verified and then only says where to look: what it tells may be old, and has the shape of another API version.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import stripe
from sqlalchemy import Row

from core.errors import BadRequest, Unavailable
from core.log import get_logger
from core.payments.payment_methods import Method
from core.payments.payments import CURRENCY, NANOS_PER_CENT, Page, Payment, Reversal, Told, TopUpKind, TopUpStatus
from core.settings import Settings

log = get_logger()

# Charging a card takes Stripe up to ten seconds or so, when its bank thinks about it.
_TIMEOUT_SECONDS = 20
# Quick ones; every call that changes something has an idempotency key.
_RETRIES = 1
#: How old an event may be, by its signature: whoever has copied one cannot send it later.
TOLERANCE_SECONDS = 300
#: Stripe allows half an hour to a day.
_PAGE_SECONDS = 3600
_LISTED = 100

_INTENT = ("payment_method", "latest_charge.refunds")
#: Events about these objects concern a payment; others are not for us.
_OURS = ("checkout.session", "payment_intent")
_ABOUT_PAYMENTS = ("charge", "refund", "dispute")


class StripePayments:
    name = "stripe"

    def __init__(self, settings: Settings, retries: int = _RETRIES) -> None:
        self._installation = settings.installation
        self._webhook_secret = settings.stripe_webhook_secret
        self._http = stripe.AIOHTTPClient(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS))
        addresses = {"api": settings.stripe_api_url.rstrip("/")} if settings.stripe_api_url else {}
        self._client = stripe.StripeClient(
            settings.stripe_secret_key,
            http_client=self._http,
            base_addresses=addresses,
            max_network_retries=retries,
        )

    async def customer(self, account_id: str, username: str) -> str:
        named = {"name": username, "metadata": {"millrace": self._installation, "account": account_id}}
        with _asking():
            created = await self._client.v1.customers.create_async(
                named, _once(f"{self._installation}:customer:{account_id}")
            )
        return created.id

    async def checkout(self, top_up: Row, customer: str, success_url: str, cancel_url: str) -> Page:
        metadata = self._metadata(top_up)
        price = {
            "currency": CURRENCY,
            "unit_amount": top_up.amount_nanos // NANOS_PER_CENT,
            "product_data": {"name": "Top-up of your balance"},
        }
        wanted = {
            "mode": "payment",
            "customer": customer,
            "client_reference_id": top_up.id,
            "payment_method_types": ["card"],
            "line_items": [{"price_data": price, "quantity": 1}],
            "payment_intent_data": {"setup_future_usage": "off_session", "metadata": metadata},
            "metadata": metadata,
            "success_url": success_url,
            "cancel_url": cancel_url,
            # Not from now on: the same call again must be the same call.
            "expires_at": int(top_up.created_at.timestamp()) + _PAGE_SECONDS,
        }
        with _asking():
            session = await self._client.v1.checkout.sessions.create_async(wanted, _once(top_up.id))
        return Page(session.id, session.url)

    async def charge(self, top_up: Row, customer: str, method: str) -> Payment | None:
        wanted = {
            "amount": top_up.amount_nanos // NANOS_PER_CENT,
            "currency": CURRENCY,
            "customer": customer,
            "payment_method": method,
            "payment_method_types": ["card"],
            "off_session": True,
            "confirm": True,
            "metadata": self._metadata(top_up),
            "expand": list(_INTENT),
        }
        with _asking():
            try:
                intent = await self._client.v1.payment_intents.create_async(wanted, _once(top_up.id))
            except stripe.CardError as error:
                return self._declined(top_up, error)
            except stripe.IdempotencyError:
                # Charged by another method before, as it seems: see what came of that.
                return await self.find(top_up, customer)
            except stripe.InvalidRequestError as error:
                log.warning("Stripe refuses a charge", top_up=top_up.id, error=error.user_message)
                return Payment(top_up.id, None, TopUpStatus.FAILED, failure="The saved method cannot be charged.")
            return await self._payment_of(intent.to_dict())

    def _declined(self, top_up: Row, error: stripe.CardError) -> Payment:
        intent = error.json_body["error"].get("payment_intent") or {}
        failure = error.user_message or "The card was declined."
        return Payment(top_up.id, intent.get("id"), TopUpStatus.FAILED, failure=failure)

    async def payment(self, reference: str) -> Payment | None:
        with _asking():
            try:
                if reference.startswith("cs_"):
                    expand = {"expand": [f"payment_intent.{each}" for each in _INTENT]}
                    session = await self._client.v1.checkout.sessions.retrieve_async(reference, expand)
                    return await self._payment_on(session.to_dict())
                intent = await self._client.v1.payment_intents.retrieve_async(reference, {"expand": list(_INTENT)})
            except stripe.InvalidRequestError as error:
                if error.code == "resource_missing":
                    return None
                raise
            return await self._payment_of(intent.to_dict())

    async def find(self, top_up: Row, customer: str) -> Payment | None:
        # A minute earlier, for clocks differ.
        since = int(top_up.created_at.timestamp()) - 60
        wanted = {"customer": customer, "created": {"gte": since}, "limit": _LISTED, "expand": ["data.latest_charge"]}
        with _asking():
            listed = await self._client.v1.payment_intents.list_async(wanted)
            async for intent in listed.auto_paging_iter():
                if intent.to_dict()["metadata"].get("top_up") == top_up.id:
                    return await self.payment(intent.id)
        return None

    async def forget(self, method: str) -> None:
        with _asking():
            try:
                await self._client.v1.payment_methods.detach_async(method)
            except stripe.InvalidRequestError as error:
                # Detached, by its owner or by us the last time we tried.
                log.info("payment method was gone already", error=error.user_message)

    def read(self, body: bytes, signature: str | None) -> Told:
        if not self._webhook_secret:
            raise Unavailable("This server cannot verify Stripe's events: MILLRACE_STRIPE_WEBHOOK_SECRET is not set.")
        try:
            event = self._client.construct_event(body, signature, self._webhook_secret, TOLERANCE_SECONDS).to_dict()
        except (stripe.SignatureVerificationError, ValueError, TypeError) as error:
            raise BadRequest("This is no event that Stripe signed for this server within five minutes.") from error
        about = event["data"]["object"]
        if about.get("object") in _OURS and self._is_ours(about):
            return Told(event["id"], event["type"], about["id"])
        if about.get("object") in _ABOUT_PAYMENTS:
            return Told(event["id"], event["type"], about.get("payment_intent"))
        return Told(event["id"], event["type"], None)

    async def close(self) -> None:
        await self._http.close_async()

    def _metadata(self, top_up: Row) -> dict[str, str]:
        return {"millrace": self._installation, "top_up": top_up.id, "kind": top_up.kind}

    def _is_ours(self, about: dict[str, Any]) -> bool:
        metadata = about.get("metadata") or {}
        return metadata.get("millrace") == self._installation and "top_up" in metadata

    async def _payment_on(self, session: dict[str, Any]) -> Payment | None:
        if not self._is_ours(session):
            return None
        if session["payment_intent"] and session["status"] == "complete":
            return await self._payment_of(session["payment_intent"])
        id = session["metadata"]["top_up"]
        if session["status"] == "expired":
            return Payment(id, session["id"], TopUpStatus.EXPIRED, failure="Nobody paid in time.")
        return Payment(id, session["id"], TopUpStatus.PENDING)

    async def _payment_of(self, intent: dict[str, Any]) -> Payment | None:
        if not self._is_ours(intent):
            return None
        status = _status(intent)
        error = intent["last_payment_error"] or {}
        return Payment(
            top_up_id=intent["metadata"]["top_up"],
            reference=intent["id"],
            status=status,
            cents=intent["amount_received"],
            currency=intent["currency"],
            failure=error.get("message", "It was canceled.") if status is TopUpStatus.FAILED else None,
            method=_method(intent),
            reversals=await self._reversals(intent) if status is TopUpStatus.SUCCEEDED else (),
        )

    async def _reversals(self, intent: dict[str, Any]) -> list[Reversal]:
        """Known by their balance transactions, which Stripe never changes; how much, by the refund or dispute itself,
        since those may be in another currency."""
        charge = intent["latest_charge"]
        found = [reversal for refund in charge["refunds"]["data"] for reversal in _of_refund(refund)]
        if charge["refunds"]["has_more"]:
            listed = await self._client.v1.refunds.list_async({"payment_intent": intent["id"], "limit": _LISTED})
            found = [found async for refund in listed.auto_paging_iter() for found in _of_refund(refund.to_dict())]
        if charge["disputed"]:
            listed = await self._client.v1.disputes.list_async({"payment_intent": intent["id"], "limit": _LISTED})
            found += [found async for dispute in listed.auto_paging_iter() for found in _of_dispute(dispute.to_dict())]
        return found


def _status(intent: dict[str, Any]) -> TopUpStatus:
    is_recharge = intent["metadata"].get("kind") == TopUpKind.RECHARGE
    if intent["status"] == "succeeded":
        return TopUpStatus.SUCCEEDED
    if intent["status"] == "canceled":
        return TopUpStatus.FAILED if is_recharge else TopUpStatus.EXPIRED
    # On a page, its owner may try another card; by itself, nobody does.
    if is_recharge and intent["status"] in ("requires_payment_method", "requires_action"):
        return TopUpStatus.FAILED
    return TopUpStatus.PENDING


def _method(intent: dict[str, Any]) -> Method | None:
    method = intent["payment_method"]
    # Known by its id only, where nobody asked for more.
    if not isinstance(method, dict) or not intent["customer"]:
        return None
    card = method.get("card")
    label = f"{card['brand']} {card['last4']}" if card else method["type"]
    return Method(intent["customer"], method["id"], label)


def _of_refund(refund: dict[str, Any]) -> Iterator[Reversal]:
    if gone := refund.get("balance_transaction"):
        yield Reversal(gone, refund["amount"], f"Refund {refund['id']}")
    if back := refund.get("failure_balance_transaction"):
        yield Reversal(back, -refund["amount"], f"Failure of the refund {refund['id']}")


def _of_dispute(dispute: dict[str, Any]) -> Iterator[Reversal]:
    for moved in dispute["balance_transactions"]:
        if moved["amount"] < 0:
            yield Reversal(moved["id"], dispute["amount"], f"Dispute {dispute['id']}")
        elif moved["amount"] > 0:
            yield Reversal(moved["id"], -dispute["amount"], f"Won dispute {dispute['id']}")


def _once(key: str) -> dict[str, str]:
    return {"idempotency_key": key}


@contextmanager
def _asking() -> Iterator[None]:
    """Whatever Stripe says beyond what its callers expect means that nobody knows. Raises `Unavailable`."""
    try:
        yield
    except (stripe.StripeError, aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
        log.warning("Stripe did not answer as it should", error=f"{type(error).__name__}: {error}")
        raise Unavailable("Stripe does not answer as it should. Nothing is charged twice: try again later.") from error
