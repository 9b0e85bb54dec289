"""What a search finds, in which order, and that no text breaks it."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Row, insert, update

from core import catalog, search
from core.database import Transaction
from core.ids import new_id
from core.people import accounts
from core.resources import Resources
from core.search import Query
from core.tables import Collection, Model
from tests.support.factories import add_account

_MOST = 1000


async def add_model(tx: Transaction, owner: Row, name: str, **fields: Any) -> str:
    id = new_id()
    values = {"id": id, "owner_id": owner.id, "name": name, "hardware_sku": "cpu", "visibility": "public", **fields}
    await tx.execute(insert(Model).values(**values))
    return id


async def find(tx: Transaction, text: str, account_id: str | None = None) -> list[Row]:
    query = Query.of(text)
    return await search.models(tx, account_id, query, _MOST) if query else []


@pytest.fixture(autouse=True)
async def cpu(resources: Resources) -> None:
    async with resources.database.transaction() as tx:
        await catalog.put_hardware(tx, "cpu", "CPU", 1)


async def test_names_come_before_texts_and_whole_names_before_parts(resources: Resources) -> None:
    word = f"w{new_id()}"
    async with resources.database.transaction() as tx:
        owner, namesake = await add_account(tx), await accounts.ensure(tx, word, word)
        names = {
            "exact": await add_model(tx, owner, word),
            "begins": await add_model(tx, owner, f"{word}-xl"),
            "of the owner": await add_model(tx, namesake, "other"),
            "part": await add_model(tx, owner, f"my-{word}"),
            "described": await add_model(tx, owner, "a", description=f"Better than {word}"),
            "in the README": await add_model(tx, owner, "b", readme=f"# Hello\nsee {word}."),
        }
        await add_model(tx, owner, "c", description="Something else")
        rows = await find(tx, word.upper())
    assert rows[0].id == names["exact"]
    assert {row.id for row in rows[1:3]} == {names["begins"], names["of the owner"]}
    assert [row.id for row in rows[3:]] == [names["part"], names["described"], names["in the README"]]
    scores = [row.score for row in rows]
    assert scores == sorted(scores, reverse=True)


async def test_every_word_must_begin_a_word_of_the_model_or_its_owner(resources: Resources) -> None:
    mark = new_id()
    async with resources.database.transaction() as tx:
        owner = await accounts.ensure(tx, f"owner-{mark}", "Owner")
        id = await add_model(tx, owner, "tiny-llm.v2", description="Schreibt GRÜSSE", readme=f"See {mark}/paper@x.org")
        for text in (
            f"tin {mark}",
            f"{mark[:20]} V2 ll",
            f"owner-{mark}/tiny",
            f"paper {mark} X org",
            f"grü schreib {mark}",
            f"  tiny\n\tLLM  {mark} ",
            f"owner-{mark}",
        ):
            assert [row.id for row in await find(tx, text)] == [id], text
        for text in (f"tiny absent {mark}", f"iny {mark}", f"tiny & !{mark}x"):
            assert not await find(tx, text), text


async def test_a_search_sees_changes_at_once(resources: Resources) -> None:
    word = f"w{new_id()}"
    async with resources.database.transaction() as tx:
        id = await add_model(tx, await add_account(tx), "changing")
        assert not await find(tx, word)
        await tx.execute(update(Model).where(Model.id == id).values(readme=f"Now {word}"))
        assert [row.id for row in await find(tx, word)] == [id]


async def test_a_huge_readme_is_searched_in_its_beginning(resources: Resources) -> None:
    """Postgres refuses a row whose words are more than 1 MB."""
    first, last = f"w{new_id()}", f"w{new_id()}"
    text = f"{first} " + " ".join(f"{number:x}é" for number in range(60_000)) + f" {last}"
    async with resources.database.transaction() as tx:
        id = await add_model(tx, await add_account(tx), "huge", readme=text)
        assert [row.id for row in await find(tx, first)] == [id]
        assert not await find(tx, last)


async def test_what_is_private_is_found_by_its_owner_only(resources: Resources) -> None:
    word = f"w{new_id()}"
    async with resources.database.transaction() as tx:
        owner, stranger = await add_account(tx), await add_account(tx)
        id = await add_model(tx, owner, word, visibility="private")
        assert [row.id for row in await find(tx, word, owner.id)] == [id]
        assert not await find(tx, word, stranger.id)
        assert not await find(tx, word)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=300) | st.text(alphabet="'\"\\&|!():*<->%_ a🦓\0", max_size=60))
async def test_no_text_breaks_a_search(resources: Resources, text: str) -> None:
    text = text.encode(errors="replace").decode()  # Lone halves of characters do not come through HTTP.
    query = Query.of(text)
    if query is None:
        assert not text.replace("\0", " ").strip()
        return
    async with resources.database.autocommit() as tx:
        await search.models(tx, None, query, 3)
        await search.collections(tx, None, query, 3)


WORDS = st.text(alphabet="abcXYZ019'\"\\&|!():*<>%_-.,;/🦓é", min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=8), data=st.data())
async def test_any_words_of_a_description_find_it(resources: Resources, words: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(words) - 1))
    text = " ".join(words[start : data.draw(st.integers(start + 1, len(words)))])
    async with resources.database.engine.connect() as connection:
        tx = Transaction(connection)  # Rolled back.
        owner = await add_account(tx)
        id = await add_model(tx, owner, "described", description=" ".join(words), visibility="private")
        assert [row.id for row in await find(tx, text, owner.id)].count(id) == 1


async def test_a_collection_is_found_by_all_its_words(resources: Resources) -> None:
    mark = new_id()
    async with resources.database.transaction() as tx:
        values = {"slug": f"s-{mark}", "name": "Upscale Images", "description": "Make them 100% larger"}
        await tx.execute(insert(Collection).values(**values))
        for text in (f"upscale {mark}", f"LARGER images {mark}", f"100% {mark}"):
            [row] = await search.collections(tx, None, Query.of(text), 5)
            assert (row.slug, row.models) == (f"s-{mark}", [])
        assert not await search.collections(tx, None, Query.of(f"smaller {mark}"), 5)
