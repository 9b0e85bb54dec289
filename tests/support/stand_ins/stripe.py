"""Stripe's HTTP API, as far as top-ups need it, served on loopback, and the people who pay there.

localstripe (1.15.10) has no Checkout, and takes the money twice when the same idempotency key comes again; this one
holds on to what matters here: a key is one request, every parameter is known, and an event is signed over its bytes.
"""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from aiohttp import web

KEY, WEBHOOK_SECRET = "sk_test_stand_in", "whsec_stand_in"

_CUSTOMER = {"name", "metadata"}
_SESSION = {
    "mode",
    "customer",
    "client_reference_id",
    "payment_method_types",
    "line_items",
    "payment_intent_data",
    "metadata",
    "success_url",
    "cancel_url",
    "expires_at",
}
_INTENT = {
    "amount",
    "currency",
    "customer",
    "payment_method",
    "payment_method_types",
    "off_session",
    "confirm",
    "metadata",
    "expand",
}

Object = dict[str, Any]


class Refused(Exception):
    """An error as Stripe answers it."""

    def __init__(self, status: int, type: str, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"type": type, "message": message, **fields}}


@dataclass
class StripeStandIn:
    """`lost_answers`: so many requests are done, and their connections closed without an answer. `refusals`: so many
    are answered with 500 and not done. `declines`: cards refuse."""

    url: str = ""
    lost_answers: int = 0
    refusals: int = 0
    declines: bool = False
    objects: dict[str, Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    before_charging: Callable[[], Awaitable[None]] | None = None
    _keys: dict[str, tuple[Any, int, Object]] = field(default_factory=dict)
    _at_work: set[str] = field(default_factory=set)

    # --- what it has ---

    def of(self, kind: str) -> list[Object]:
        return [each for each in self.objects.values() if each["object"] == kind]

    @property
    def charges(self) -> list[Object]:
        """Money that was taken."""
        return [charge for charge in self.of("charge") if charge["paid"]]

    def kept_cents(self, customer: str) -> int:
        """What was taken from a customer and has not gone back."""
        moved = [each for each in self.of("balance_transaction") if each["customer"] == customer]
        return sum(each["amount"] for each in moved)

    # --- what people do ---

    def pay(self, session_id: str) -> None:
        """The owner pays on the page, by a card that works unless `declines`."""
        session = self.objects[session_id]
        assert session["status"] == "open", session
        method = self._add("payment_method", type="card", customer=None, card={"brand": "visa", "last4": "4242"})
        intent = self.objects.get(session["payment_intent"] or "") or self._add(
            "payment_intent",
            amount=session["amount_total"],
            currency=session["currency"],
            customer=session["customer"],
            metadata=session["_intent_metadata"],
            **_FRESH,
        )
        session["payment_intent"] = intent["id"]
        if self._take(intent, method):
            method["customer"] = session["customer"]
            session |= {"status": "complete", "payment_status": "paid"}
            self._tell("checkout.session.completed", session)

    def expire(self, session_id: str) -> None:
        session = self.objects[session_id]
        session["status"] = "expired"
        self._tell("checkout.session.expired", session)

    def refund(self, intent_id: str, cents: int) -> Object:
        charge = self.objects[self.objects[intent_id]["latest_charge"]]
        assert charge["amount_refunded"] + cents <= charge["amount"], "more than was charged"
        gone = self._moved(charge["customer"], -cents)
        fields = {"balance_transaction": gone["id"], "failure_balance_transaction": None, "status": "succeeded"}
        refund = self._add("refund", amount=cents, payment_intent=intent_id, charge=charge["id"], **fields)
        charge["amount_refunded"] += cents
        self._tell("charge.refunded", charge)
        return refund

    def fail_refund(self, refund: Object) -> None:
        """The payer's bank would not have it back."""
        charge = self.objects[refund["charge"]]
        back = self._moved(charge["customer"], refund["amount"])
        refund |= {"status": "failed", "failure_balance_transaction": back["id"]}
        charge["amount_refunded"] -= refund["amount"]
        self._tell("refund.failed", refund)

    def dispute(self, intent_id: str) -> Object:
        charge = self.objects[self.objects[intent_id]["latest_charge"]]
        charge["disputed"] = True
        left = charge["amount"] - charge["amount_refunded"]
        gone = self._moved(charge["customer"], -left)
        fields = {"balance_transactions": [gone], "status": "needs_response"}
        dispute = self._add("dispute", amount=left, payment_intent=intent_id, charge=charge["id"], **fields)
        self._tell("charge.dispute.funds_withdrawn", dispute)
        return dispute

    def win(self, dispute: Object) -> None:
        back = self._moved(self.objects[dispute["charge"]]["customer"], dispute["amount"])
        dispute["balance_transactions"].append(back)
        dispute["status"] = "won"
        self._tell("charge.dispute.funds_reinstated", dispute)

    def forget_keys(self) -> None:
        """As a day later."""
        self._keys.clear()

    def signed(self, event: Object, at: float | None = None, secret: str = WEBHOOK_SECRET) -> tuple[bytes, str]:
        """An event as it is sent: its bytes, and the header `Stripe-Signature`."""
        body = json.dumps(event, indent=2).encode()
        stamp = int(time.time() if at is None else at)
        signature = hmac.new(secret.encode(), b"%d." % stamp + body, hashlib.sha256).hexdigest()
        return body, f"t={stamp},v1={signature}"

    # --- its insides ---

    def _add(self, kind: str, **fields: Any) -> Object:
        prefix = {"checkout.session": "cs", "payment_intent": "pi", "payment_method": "pm", "customer": "cus"}
        id = f"{prefix.get(kind, kind[:2])}_{uuid4().hex}"
        self.objects[id] = {"id": id, "object": kind, "created": int(time.time()), **fields}
        return self.objects[id]

    def _moved(self, customer: str, cents: int) -> Object:
        return self._add("balance_transaction", amount=cents, customer=customer)

    def _tell(self, type: str, about: Object) -> None:
        data = {"object": _public(about)}
        event = {"id": f"evt_{uuid4().hex}", "object": "event", "type": type, "data": data}
        self.events.append(json.loads(json.dumps(event)))

    def _take(self, intent: Object, method: Object) -> bool:
        error = {"type": "card_error", "code": "card_declined", "message": "Your card was declined."}
        charge = self._add(
            "charge",
            amount=intent["amount"],
            currency=intent["currency"],
            customer=intent["customer"],
            payment_intent=intent["id"],
            metadata=intent["metadata"],
            paid=not self.declines,
            amount_refunded=0,
            disputed=False,
        )
        intent |= {"latest_charge": charge["id"], "payment_method": method["id"]}
        if self.declines:
            intent |= {"status": "requires_payment_method", "payment_method": None, "last_payment_error": error}
            self._tell("payment_intent.payment_failed", intent)
            return False
        self._moved(intent["customer"], intent["amount"])
        intent |= {"status": "succeeded", "amount_received": intent["amount"], "last_payment_error": None}
        self._tell("payment_intent.succeeded", intent)
        return True

    # --- what it is asked ---

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path}")
        if self.refusals:
            self.refusals -= 1
            return web.json_response({"error": {"type": "api_error", "message": "An error on our side."}}, status=500)
        try:
            status, body = 200, await self._once(request)
        except Refused as refused:
            status, body = refused.status, refused.body
        if self.lost_answers:
            self.lost_answers -= 1
            request.transport.close()
        return web.json_response(body, status=status)

    async def _once(self, request: web.Request) -> Object:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "invalid_request_error", "Invalid API Key provided.")
        parameters = _nested(parse_qsl(await request.text() or request.query_string))
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if key is None:
            return await self._do(request, parameters)
        if key in self._at_work:
            raise Refused(409, "idempotency_error", "There is another request of this key at work.")
        if key not in self._keys:
            self._at_work.add(key)
            try:
                status, body = 200, await self._do(request, parameters)
            except Refused as refused:
                status, body = refused.status, refused.body
            finally:
                self._at_work.discard(key)
            self._keys[key] = (parameters, status, json.loads(json.dumps(body)))
        asked, status, body = self._keys[key]
        if asked != parameters:
            raise Refused(400, "idempotency_error", "Keys can only be used with the same parameters.")
        if status != 200:
            raise Refused(status, **body["error"])
        return body

    async def _do(self, request: web.Request, parameters: Object) -> Object:
        parts = request.path.removeprefix("/v1/").split("/")
        match request.method, *parts:
            case "POST", "customers":
                _know(parameters, _CUSTOMER)
                return self._add("customer", **parameters)
            case "POST", "checkout", "sessions":
                return self._session(parameters)
            case "POST", "payment_intents":
                return await self._charge(parameters)
            case "POST", "payment_methods", id, "detach":
                return self._detach(self._get(id))
            case "GET", "payment_intents":
                own = [each for each in self.of("payment_intent") if each["customer"] == parameters["customer"]]
                return _list([_public(intent) for intent in own])
            case "GET", "refunds" | "disputes" as kind:
                own = [each for each in self.of(kind[:-1]) if each["payment_intent"] == parameters["payment_intent"]]
                return _list(own)
            case "GET", "payment_intents", id:
                return self._expanded(self._get(id))
            case "GET", "checkout", "sessions", id:
                session = _public(self._get(id))
                intent = self.objects.get(session["payment_intent"] or "")
                return {**session, "payment_intent": intent and self._expanded(intent)}
        raise Refused(404, "invalid_request_error", f"Unrecognized request URL ({request.method}: {request.path}).")

    def _get(self, id: str) -> Object:
        if id not in self.objects:
            raise Refused(404, "invalid_request_error", f"No such object: '{id}'", code="resource_missing")
        return self.objects[id]

    def _session(self, parameters: Object) -> Object:
        _know(parameters, _SESSION)
        self._get(parameters["customer"])
        line = parameters["line_items"]["0"]
        price = line["price_data"]
        session = self._add(
            "checkout.session",
            customer=parameters["customer"],
            amount_total=int(price["unit_amount"]) * int(line["quantity"]),
            currency=price["currency"],
            metadata=parameters["metadata"],
            client_reference_id=parameters["client_reference_id"],
            success_url=parameters["success_url"],
            status="open",
            payment_status="unpaid",
            payment_intent=None,
            _intent_metadata=parameters["payment_intent_data"]["metadata"],
        )
        session["url"] = f"{self.url}/pay/{session['id']}"
        return _public(session)

    async def _charge(self, parameters: Object) -> Object:
        _know(parameters, _INTENT)
        assert (parameters["off_session"], parameters["confirm"]) == ("true", "true")
        if self.before_charging is not None:
            await self.before_charging()
        method = self._get(parameters["payment_method"])
        if method["customer"] != parameters["customer"]:
            raise Refused(400, "invalid_request_error", "The payment method is not attached to the customer.")
        named = {name: parameters[name] for name in ("currency", "customer", "metadata")}
        intent = self._add("payment_intent", amount=int(parameters["amount"]), **named, **_FRESH)
        if not self._take(intent, method):
            raise Refused(402, **intent["last_payment_error"], payment_intent=self._expanded(intent))
        return self._expanded(intent)

    def _detach(self, method: Object) -> Object:
        if method["customer"] is None:
            raise Refused(400, "invalid_request_error", "The payment method you provided is not attached.")
        method["customer"] = None
        return method

    def _expanded(self, intent: Object) -> Object:
        charge, method = (self.objects.get(intent[name] or "") for name in ("latest_charge", "payment_method"))
        if charge is not None:
            refunds = [refund for refund in self.of("refund") if refund["charge"] == charge["id"]]
            charge = {**charge, "refunds": _list(refunds[:10]) | {"has_more": len(refunds) > 10}}
        return {**intent, "latest_charge": charge, "payment_method": method}


_FRESH = {
    "status": "requires_confirmation",
    "amount_received": 0,
    "latest_charge": None,
    "payment_method": None,
    "last_payment_error": None,
}


def _public(thing: Object) -> Object:
    return {name: value for name, value in thing.items() if not name.startswith("_")}


def _list(data: list[Object]) -> Object:
    return {"object": "list", "data": data, "has_more": False, "url": "/v1/things"}


def _know(parameters: Object, known: set[str]) -> None:
    for name in parameters:
        if name not in known:
            raise Refused(400, "invalid_request_error", f"Received unknown parameter: {name}", code="parameter_unknown")


def _nested(pairs: list[tuple[str, str]]) -> Object:
    """`a[b][0]=c` to {"a": {"b": {"0": "c"}}}."""
    found: Object = {}
    for name, value in pairs:
        *path, last = name.replace("]", "").split("[")
        node = found
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return found


@asynccontextmanager
async def running_stripe() -> AsyncIterator[StripeStandIn]:
    stripe = StripeStandIn()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stripe.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stripe.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield stripe
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)
