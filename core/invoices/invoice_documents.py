"""What an invoice and a credit note say, as JSON. From nothing else are they shown, listed and rendered, for ever:
seller, buyer and names are copied, so that they outlive what they name.

`lines` are exact, and sum up to `exact_nanos`; amounts given back are negative. Quantities are exact decimals as text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Row

from core.clock import rfc3339
from core.invoices.billing_months import Period
from core.invoices.billing_profiles import Profile
from core.invoices.invoice_totals import Totals
from core.invoices.invoices import CREDIT_NOTE, INVOICE
from core.invoices.localized import CURRENCY
from core.settings import Settings

Document = dict[str, Any]


def seller(settings: Settings) -> Document:
    return {
        "name": settings.seller_name,
        "address": "\n".join(line.strip() for line in settings.seller_address.split("|")).strip(),
        "email": settings.seller_email,
        "tax_id": settings.seller_tax_id,
        "note": settings.invoice_note,
    }


def invoice(
    settings: Settings, account: Row, profile: Profile, period: Period, lines: Sequence[Document], totals: Totals
) -> Document:
    """Without its number and date, which it is given last."""
    zone = ZoneInfo(profile.timezone)
    return {
        "kind": INVOICE,
        "currency": CURRENCY,
        "locale": profile.locale,
        "timezone": profile.timezone,
        "month": period.month.isoformat(),
        "period_start": rfc3339(period.start),
        "period_end": rfc3339(period.end),
        "first_day": period.start.astimezone(zone).date().isoformat(),
        "last_day": (period.end - timedelta(microseconds=1)).astimezone(zone).date().isoformat(),
        "seller": seller(settings),
        "buyer": _buyer(account, profile),
        "is_prepaid": account.credit_limit_nanos == 0,
        "lines": list(lines),
        "tax_name": profile.tax_name,
        "tax_parts_per_million": profile.tax_parts_per_million,
        **asdict(totals),
    }


def _buyer(account: Row, profile: Profile) -> Document:
    return {
        "account_id": account.id,
        "username": account.username,
        "name": profile.name or account.name or account.username,
        "address": profile.address,
        "email": profile.email,
        "tax_id": profile.tax_id,
    }


def credit_note(corrected: Row, reason: str, subtotal_nanos: int, tax_nanos: int) -> Document:
    """Positive amounts, which its name says are given back. The rest is as on the invoice it corrects."""
    of = corrected.document
    kept = ("currency", "locale", "timezone", "month", "period_start", "period_end", "first_day", "last_day")
    terms = ("seller", "buyer", "tax_name", "tax_parts_per_million")
    return {
        "kind": CREDIT_NOTE,
        **{name: of[name] for name in (*kept, *terms)},
        "corrects": {"id": corrected.id, "number": corrected.number, "issued_at": of["issued_at"]},
        "lines": [{"kind": "credit", "reason": reason, "count": 1, "amount_nanos": subtotal_nanos}],
        "exact_nanos": subtotal_nanos,
        "subtotal_nanos": subtotal_nanos,
        "tax_nanos": tax_nanos,
        "total_nanos": subtotal_nanos + tax_nanos,
    }


def numbered(document: Mapping[str, Any], number: str, issued_at: datetime) -> Document:
    return {**document, "number": number, "issued_at": rfc3339(issued_at)}
