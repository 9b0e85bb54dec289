"""Forms that move money or terms: shown, read, refused with a sentence beside the field, and done once.

What a form makes has an id from the moment it is shown, so that a form sent twice does nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import Response

from api.web.views import View
from core.errors import MillraceError
from core.ids import new_id
from core.money import pricing

_ID = "once"


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a form. `kind`: text, money, date, number, choice, lines or checkbox."""

    name: str
    label: str
    kind: str = "text"
    value: Any = ""
    hint: str = ""
    is_required: bool = False
    choices: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """What stands on the page around the fields. `path`: where it is sent, and where it is shown."""

    title: str
    intro: str
    path: str
    submit: str
    fields: Sequence[Field]
    crumbs: Sequence[tuple[str, str]] = ()
    back: str = ""
    warning: str = ""
    facts: Sequence[tuple[str, str]] = field(default=())


class Wrong(Exception):
    """What a field holds cannot be read."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name


class Given:
    """What was sent. Every reader raises `Wrong`."""

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    @property
    def id(self) -> str:
        return self.values.get(_ID) or new_id()

    def text(self, name: str, is_required: bool = False) -> str:
        value = self.values.get(name, "")
        if is_required and not value:
            raise Wrong(name, "This is needed.")
        return value

    def money(self, name: str, is_required: bool = True) -> int | None:
        """Nanodollars; None for an empty field."""
        text = self.text(name, is_required).removeprefix("$").replace(",", "").strip()
        if not text:
            return None
        try:
            return pricing.nanos(text)
        except ValueError as error:
            raise Wrong(name, str(error)) from None

    def whole(self, name: str) -> int | None:
        text = self.text(name).replace(",", "")
        if not text:
            return None
        if not text.isdecimal() or len(text) > 18:
            raise Wrong(name, "Write a whole number.")
        return int(text)

    def day(self, name: str) -> datetime | None:
        """Its first moment, by UTC."""
        text = self.text(name)
        if not text:
            return None
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            raise Wrong(name, "Write a day like 2026-01-31.") from None

    def choice(self, name: str, choices: Sequence[tuple[str, str]]) -> str:
        value = self.text(name)
        if value not in [key for key, _ in choices]:
            raise Wrong(name, "Choose one of these.")
        return value

    def is_on(self, name: str) -> bool:
        return bool(self.values.get(name))


async def given(view: View) -> Given:
    return Given(await view.form())


def show(
    view: View,
    form: Form,
    sent: Given | None = None,
    error: Exception | None = None,
    form_targets: Sequence[str] = (),
) -> Response:
    """With what was sent and what is wrong with it, if it was refused."""
    problems = {error.name: str(error)} if isinstance(error, Wrong) else {}
    general = error.detail if isinstance(error, MillraceError) else ""
    return view.render(
        "billing/form.html",
        status=422 if error else 200,
        form_targets=form_targets,
        form=form,
        values=sent.values if sent else {each.name: each.value for each in form.fields},
        problems=problems,
        general=general,
        id_name=_ID,
        id=sent.id if sent else new_id(),
    )
