"""What stands at the side of every page, in this order. A page that belongs there gets a line here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    label: str
    path: str


@dataclass(frozen=True, slots=True)
class Area:
    label: str
    entries: tuple[Entry, ...]
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    label: str
    path: str
    is_current: bool


AREAS = (
    Area("Account", (Entry("Billing", "/account/billing"), Entry("Settings", "/account/settings"))),
    Area("Administration", (Entry("Billing", "/admin/billing"),), admin=True),
)


def areas(is_admin: bool, path: str) -> list[tuple[str, list[Link]]]:
    """Those this person may open; the entry that `path` is on, or below, is the current one."""
    entries = [entry for area in AREAS for entry in area.entries if _is_on(path, entry)]
    current = max(entries, key=lambda entry: len(entry.path), default=None)
    return [
        (area.label, [Link(entry.label, entry.path, entry is current) for entry in area.entries])
        for area in AREAS
        if area.entries and (is_admin or not area.admin)
    ]


def _is_on(path: str, entry: Entry) -> bool:
    return path == entry.path or path.startswith(f"{entry.path}/")
