"""Why a usage record costs what it costs, in a sentence. Pure."""

from api.web import formats
from core.money.pricing import MICROS_PER_SECOND
from core.reports.records import Explanation
from core.usage.metering import IDLE, PREDICTION, SETUP

_DOING = {IDLE: "stood ready", SETUP: "was set up"}


def seconds(micros: int) -> str:
    """All six digits that were measured: what is multiplied is what is shown."""
    return f"{micros // MICROS_PER_SECOND:,}.{micros % MICROS_PER_SECOND:06d}"


def sentence(found: Explanation) -> str:
    record = found.record
    who, amount = record.account_name or found.account.username, formats.exact_money(record.amount_nanos)
    if record.cause_kind == PREDICTION:
        what = f"{record.model} ran for {seconds(record.micros)} s on {found.hardware_name}"
    else:
        doing = _DOING.get(record.phase, "was busy")
        what = f"an instance of {record.model} {doing} for {seconds(record.micros)} s on {found.hardware_name}"
    if record.units:
        return f"{who} was charged {amount}: {what}, and this Model is priced by what it makes."
    if not record.price_nanos_per_second:
        return f"{who} was charged nothing: {what}, and {_free(found)}."
    price = formats.exact_money(record.price_nanos_per_second)
    return f"{who} was charged {amount}: {what}, which costs {price} per second."


def _free(found: Explanation) -> str:
    if found.record.cause_kind == PREDICTION:
        return "the time of its instance is what is charged, not each run"
    return "those who call it pay for their runs, not for its time"
