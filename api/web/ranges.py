"""The days a page looks at: a usual span by its name, or two days of one's own; both from the query. Pure."""

from dataclasses import dataclass
from datetime import date, timedelta

#: Longer ones take long to draw, and nobody can read them.
LONGEST = timedelta(days=400)
_LABELS = {
    "today": "Today",
    "yesterday": "Yesterday",
    "7d": "7 days",
    "30d": "30 days",
    "month": "This month",
    "last-month": "Last month",
    "90d": "90 days",
}


@dataclass(frozen=True, slots=True)
class Preset:
    name: str
    label: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class DateRange:
    """Both days are in it. `name`: of a usual span, or empty."""

    first: date
    last: date
    today: date
    name: str = ""

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1)]

    @property
    def before(self) -> "DateRange":
        """As many days just before, to compare with."""
        length = self.last - self.first + timedelta(days=1)
        return DateRange(self.first - length, self.last - length, self.today)

    @property
    def presets(self) -> list[Preset]:
        return [Preset(name, label, name == self.name) for name, label in _LABELS.items()]

    @property
    def query(self) -> dict[str, str]:
        """What a link to the same days carries."""
        return {"span": self.name} if self.name else {"since": str(self.first), "until": str(self.last)}


def date_range(today: date, span: str = "", since: str = "", until: str = "", default: str = "30d") -> DateRange:
    """What the query says; of what it says wrongly, the nearest that makes sense."""
    first, last = _day(since), _day(until)
    usual = _usual(span if span in _LABELS else default, today)
    # A form sends its days along with the name: they are of one's own only once they differ.
    if (first or last) and (first, last) != (usual.first, usual.last):
        last = min(last or today, today)
        first = max(min(first or last, last), last - LONGEST)
        return DateRange(first, last, today)
    return usual


def _usual(name: str, today: date) -> DateRange:
    match name:
        case "today":
            return DateRange(today, today, today, name)
        case "yesterday":
            day = today - timedelta(days=1)
            return DateRange(day, day, today, name)
        case "month":
            return DateRange(today.replace(day=1), today, today, name)
        case "last-month":
            last = today.replace(day=1) - timedelta(days=1)
            return DateRange(last.replace(day=1), last, today, name)
        case _:
            days = int(name.removesuffix("d"))
            return DateRange(today - timedelta(days=days - 1), today, today, name)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
