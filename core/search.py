"""What people look for: Models and collections by their words. Any text is a fine query; its operators mean nothing.

A Model is found if each word of the query begins a word of its name, description or README, or its owner's name; or if
the query stands in its name or description just as it is. Every Model is looked at, which takes 50 µs where a README
has 4 kB; an index would be passed over, because Postgres does not count what it costs to read long values.
"""

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import REGCONFIG

from core.catalog import visible, visible_models
from core.database import Transaction
from core.tables import Account, Collection, CollectionModel, Model

# More would find no better and cost more.
_MOST_CHARACTERS = 500
_MOST_WORDS = 16

_WORD = re.compile(r"[^\W_]+")
_OWNER, _NAME = func.lower(Account.username), func.lower(Model.name)
_FULL_NAME = func.lower(Account.username + "/" + Model.name)

#: Names before texts, whose rank is below 1.
_EXACT, _BEGINNING, _PART = 3.0, 2.0, 1.0


@dataclass(frozen=True, slots=True)
class Query:
    """`phrase`: as it was typed, in lower case and with single spaces."""

    phrase: str
    words: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> "Query | None":
        """None: there is nothing to look for."""
        phrase = " ".join(text.replace("\0", " ").split())[:_MOST_CHARACTERS].strip().lower()
        return cls(phrase, tuple(dict.fromkeys(_WORD.findall(phrase)))[:_MOST_WORDS]) if phrase else None


async def models(tx: Transaction, account_id: str | None, query: Query, limit: int) -> list[Row]:
    """Those that the account may see, the most relevant first, with their `score`. No account: public ones."""
    score = (_name_score(query) + _text_score(query)).label("score")
    found = visible_models(account_id, score).where(_matches(query))
    return list(await tx.all(found.order_by(score.desc(), Model.created_at.desc(), Model.id.desc()).limit(limit)))


def _matches(query: Query) -> ColumnElement[bool]:
    as_it_is = or_(_holds(_FULL_NAME, query.phrase), _holds(func.lower(Model.description), query.phrase))
    if not query.words:
        return as_it_is
    everywhere = (
        or_(Model.searchable.op("@@")(_tsquery(_lexeme(word))), func.starts_with(_OWNER, word)) for word in query.words
    )
    return or_(as_it_is, and_(*everywhere))


def _name_score(query: Query) -> ColumnElement[float]:
    phrase = query.phrase
    starts = (func.starts_with(text, phrase) for text in (_NAME, _FULL_NAME))
    return case(
        (literal(phrase).in_((_NAME, _FULL_NAME)), _EXACT),
        (or_(literal(phrase) == _OWNER, *starts), _BEGINNING),
        (_holds(_FULL_NAME, phrase), _PART),
        else_=0.0,
    )


def _text_score(query: Query) -> ColumnElement[float]:
    if not query.words:
        return literal(0.0)
    return func.ts_rank(Model.searchable, _tsquery(" | ".join(map(_lexeme, query.words))))


def _holds(text: Any, part: str) -> ColumnElement[bool]:
    return func.strpos(text, part) > 0


def _lexeme(word: str) -> str:
    # Words are letters and digits only, so nothing in the quotes ends them.
    return f"'{word}':*"


def _tsquery(text: str) -> Any:
    return func.to_tsquery(cast("simple", REGCONFIG), text)


async def collections(tx: Transaction, account_id: str | None, query: Query, limit: int) -> list[Row]:
    """Those whose name and description hold every word, each with `models`: the names of what the account may see."""
    text = func.lower(Collection.name + " " + Collection.slug + " " + Collection.description)
    wanted = query.words or (query.phrase,)
    found = (
        select(Collection.slug, Collection.name, Collection.description, _names(account_id).label("models"))
        .where(*(_holds(text, word) for word in wanted))
        .order_by(Collection.created_at.desc(), Collection.slug)
    )
    return list(await tx.all(found.limit(limit)))


def _names(account_id: str | None) -> Any:
    inside: Select = (
        select(Account.username + "/" + Model.name)
        .select_from(CollectionModel)
        .join(Model, Model.id == CollectionModel.model_id)
        .join(Account, Account.id == Model.owner_id)
        .where(CollectionModel.slug == Collection.slug)
        .order_by(CollectionModel.position)
        .correlate(Collection)
    )
    return func.array(visible(inside, account_id).scalar_subquery())
