"""The audit log: it has every deed that was committed and no other, nothing in it changes unseen, and no secrets."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from core.database import Transaction
from core.ids import new_id
from core.log import process_name
from core.people import audit, audit_trail, tokens
from core.people.audit import Actor
from core.people.audit_trail import BrokenChain, Filter, Head
from core.resources import Resources
from core.tables import AuditEvent
from tests.support.factories import add_account

PAGE = Path(__file__).parents[3] / "docs/audit.md"
COLUMNS = tuple(AuditEvent.__table__.c)


async def write(resources: Resources, action: str = "thing.do", count: int = 1, **facts: Any) -> list[Row]:
    """The events that one transaction has written, oldest first."""
    target = new_id()
    async with resources.database.transaction() as tx:
        for _ in range(count):
            await audit.record(tx, action, target, **facts)
    return await written(resources, target)


async def written(resources: Resources, target: str) -> list[Row]:
    async with resources.database.autocommit() as tx:
        found = select(*COLUMNS).where(AuditEvent.target.contains(target))
        return list(await tx.all(found.order_by(AuditEvent.number)))


async def events_of(resources: Resources, account_id: str) -> list[Row]:
    async with resources.database.autocommit() as tx:
        return await audit_trail.page(tx, Filter(account_id), None, 1000)


async def head(resources: Resources) -> Head:
    async with resources.database.autocommit() as tx:
        return await audit_trail.verify(tx)


# --- what is on record ------------------------------------------------------------------------------------------------


async def test_an_event_says_who_did_what_from_where_and_what_it_changed(resources: Resources) -> None:
    actor = Actor("alice via token app (mr_1a2b3…)", "an account", "a token", "192.0.2.1")
    with audit.acting(actor):
        (event,) = await write(
            resources, "limit.update", account_id="another", before={"on": True}, after={"on": False}
        )
    assert (event.actor, event.actor_account_id, event.actor_token_id, event.address) == (
        "alice via token app (mr_1a2b3…)",
        "an account",
        "a token",
        "192.0.2.1",
    )
    assert (event.action, event.account_id, event.before, event.after) == (
        "limit.update",
        "another",
        {"on": True},
        {"on": False},
    )


async def test_each_task_acts_for_its_own_caller(resources: Resources) -> None:
    async def act(name: str) -> str:
        with audit.acting(Actor(name)):
            await asyncio.sleep(0)
            return (await write(resources))[0].actor

    names = [f"caller {number}" for number in range(6)]
    assert await asyncio.gather(*map(act, names)) == names
    assert (await write(resources))[0].actor == process_name()


async def test_an_operator_is_who_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("USER", "somebody-else")
    name = audit.operator().name
    assert name.startswith("operator ")
    assert "somebody-else" not in name


async def test_a_deed_that_is_rolled_back_leaves_no_event(resources: Resources) -> None:
    async def fail() -> None:
        async with resources.database.transaction() as tx:
            await audit.record(tx, "thing.do", "never")
            raise LookupError

    before = await head(resources)
    with pytest.raises(LookupError):
        await fail()
    assert await head(resources) == before
    assert (await write(resources))[0].number == before.number + 1


async def test_an_event_apart_from_its_deed_is_refused(resources: Resources) -> None:
    async with resources.database.autocommit() as tx:
        with pytest.raises(RuntimeError, match="give it a transaction"):
            await audit.record(tx, "thing.do", "apart")


async def test_what_changes_nothing_leaves_no_event(resources: Resources) -> None:
    target = new_id()
    same, other = {"name": "a", "size": 1}, {"name": "a", "size": 2, "colour": "red"}
    async with resources.database.transaction() as tx:
        await audit.record_change(tx, "thing.update", target, account_id=None, before=same, after=dict(same))
        await audit.record_change(tx, "thing.update", target, account_id=None, before=same, after=other)
    (event,) = await written(resources, target)
    assert (event.before, event.after) == ({"size": 1, "colour": None}, {"size": 2, "colour": "red"})


async def test_money_stands_in_nanos_and_in_exact_dollars(resources: Resources) -> None:
    after = {"amount_nanos": 1_234_567_890_123_456_789, "limit_nanos": None, "steps": [{"price_nanos": 0}]}
    (event,) = await write(resources, after=after)
    assert event.after == {
        "amount_nanos": 1_234_567_890_123_456_789,
        "amount_dollars": "1234567890.123456789",
        "limit_nanos": None,
        "steps": [{"price_nanos": 0, "price_dollars": "0.000000000"}],
    }


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1e16, 10**16),
        (1.5e-7, 1.5e-7),
        (0.1, 0.1),
        (-0.0, 0),
        (2**63, str(2**63)),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        ('ünï\n\t"\\\u2028😀', 'ünï\n\t"\\\u2028😀'),
        (datetime(2026, 2, 28, tzinfo=UTC), "2026-02-28T00:00:00.000000Z"),
        ({"b", "a"}, ["a", "b"]),
        ({}, {}),
        ([None, True, [[]]], [None, True, [[]]]),
    ],
    ids=repr,
)
async def test_whatever_a_value_is_its_hash_fits_what_is_read_back(resources: Resources, value: Any, kept: Any) -> None:
    (event,) = await write(resources, after={"value": value})
    assert event.after == {"value": kept}
    assert event.hash == audit.digest(event.previous_hash, event._mapping)


# --- secrets ----------------------------------------------------------------------------------------------------------


async def test_no_token_and_no_hash_of_one_is_ever_on_record(resources: Resources) -> None:
    known = tokens.new_token()
    async with resources.database.transaction() as tx:
        account = await add_account(tx)
        await tokens.add(tx, account.id, known, f"the one that is {known}")
        row, made = await tokens.create(tx, new_id(), account.id, "app")
    async with resources.database.transaction() as tx:
        await tokens.rename(tx, account.id, row.id, f"now {made}")
        await tokens.revoke(tx, account.id, row.id)
    events = await events_of(resources, account.id)
    text = repr([event._mapping for event in events])
    assert {"token.create", "token.rename", "token.revoke"} <= {event.action for event in events}
    assert made[:8] in text
    for secret in (known, made, account.webhook_secret):
        assert secret not in text
        assert repr(tokens.hash_token(secret))[2:-1] not in text
        assert tokens.hash_token(secret).hex() not in text


async def test_what_is_called_a_secret_is_not_written_down(resources: Resources) -> None:
    secrets = {
        "password": "p1",
        "password_hash": "p2",
        "webhook_secret": "p3",
        "api_key": "p4",
        "stripe": {"secret_key": "p5", "note": f"sk_live_{'p6' * 12}"},
        "billing_webhook_url": "https://user:p7@hooks.example.com/p8?p9=p9",
        "github_url": "https://user:p10@example.com/shown?p11=p11",
        "words": [f"whsec_{'p12' * 10}="],
        "session_cookie": ["p13"],
    }
    with audit.acting(Actor(f"mr_{'ab' * 20}")):
        (event,) = await write(resources, before=secrets, after={"password": None, "token_id": "shown"})
    text = repr((event.actor, event.before, event.after))
    assert not [number for number in range(1, 14) if f"p{number}" in text]
    assert "ab" * 20 not in text
    assert event.before["billing_webhook_url"] == "https://hooks.example.com/…?…"
    assert event.before["github_url"] == "https://example.com/shown?…"
    assert event.after == {"password": None, "token_id": "shown"}


async def test_long_text_is_named_by_its_hash(resources: Resources) -> None:
    (event,) = await write(resources, after={"readme": "x" * 100_000})
    assert event.after["readme"].startswith("x" * 1000 + "… (100000 characters, SHA-256 ")
    assert len(event.after["readme"]) < 1200


# --- the chain --------------------------------------------------------------------------------------------------------


async def test_fifty_writers_at_once_leave_one_chain_without_gaps(resources: Resources) -> None:
    before = await head(resources)
    target = new_id()

    async def act(number: int) -> None:
        async with resources.database.transaction() as tx:
            await audit.record(tx, "thing.do", f"{target} {number}")
            await tx.execute(select(text("pg_sleep(0.001)")))
            await audit.record(tx, "thing.do", f"{target} {number} again")
            if number % 5 == 0:
                raise LookupError(number)

    results = await asyncio.gather(*map(act, range(50)), return_exceptions=True)
    assert sum(isinstance(result, LookupError) for result in results) == 10
    events = await written(resources, target)
    assert [event.number for event in events] == list(range(before.number + 1, before.number + 81))
    # Those of one transaction stand together, in its order.
    assert [event.target for event in events[1::2]] == [f"{event.target} again" for event in events[::2]]
    assert await head(resources) == Head(before.number + 80, events[-1].hash)


async def test_nobody_waits_for_a_deed_that_is_not_done_yet(resources: Resources) -> None:
    async with resources.database.transaction() as slow:
        await audit.record(slow, "thing.do", "slow")
        (quick,) = await write(resources)
    assert (await head(resources)).number == quick.number + 1


@pytest.mark.parametrize("change", [update(AuditEvent).values(actor="nobody"), delete(AuditEvent)], ids=str)
async def test_the_database_refuses_to_change_an_event(resources: Resources, change: Any) -> None:
    (event,) = await write(resources)
    with pytest.raises(DBAPIError):
        async with resources.database.transaction() as tx:
            await tx.execute(change.where(AuditEvent.number == event.number))


@asynccontextmanager
async def tampering(resources: Resources) -> AsyncIterator[Transaction]:
    """As the database's owner could, past the trigger; undone at the end."""
    async with resources.database.engine.connect() as connection:
        tx = Transaction(connection)
        await tx.execute(text("SET LOCAL session_replication_role = replica"))
        yield tx


async def verdict(tx: Transaction, known: Head | None = None) -> str:
    with pytest.raises(BrokenChain) as broken:
        await audit_trail.verify(tx, known)
    return str(broken.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"actor": "nobody"},
        {"actor_account_id": "x"},
        {"actor_token_id": "x"},
        {"address": "192.0.2.9"},
        {"action": "thing.else"},
        {"account_id": "x"},
        {"target": "x"},
        {"before": {"on": 1}},
        {"after": None},
        {"at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"hash": bytes(32)},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_an_event_that_was_changed_is_named(resources: Resources, changed: dict[str, Any]) -> None:
    events = await write(resources, count=3, after={"on": True})
    async with tampering(resources) as tx:
        await tx.execute(update(AuditEvent).where(AuditEvent.number == events[1].number).values(**changed))
        said = await verdict(tx)
    assert said == f"Event {events[1].number} is not what was written: its hash does not fit its content."


async def test_events_that_were_removed_are_named(resources: Resources) -> None:
    events = await write(resources, count=5)
    first, last = events[1].number, events[2].number
    async with tampering(resources) as tx:
        await tx.execute(delete(AuditEvent).where(AuditEvent.number.between(first, last)))
        said = await verdict(tx)
    assert said == f"Event {last + 1} follows event {first - 1}: events {first} to {last} are missing."


async def test_events_that_changed_places_are_found(resources: Resources) -> None:
    one, other = await write(resources, count=2)
    async with tampering(resources) as tx:
        for number, event in ((-1, one), (one.number, other), (other.number, None)):
            source = event.number if event else -1
            await tx.execute(update(AuditEvent).where(AuditEvent.number == source).values(number=number))
        said = await verdict(tx)
    assert said.startswith(f"Event {one.number} was not written after event {one.number - 1}")


async def test_an_event_that_was_put_between_is_found(resources: Resources) -> None:
    first, _ = await write(resources, count=2)
    forged = {**first._mapping, "previous_hash": first.hash, "number": first.number + 1, "target": "forged"}
    forged["hash"] = audit.digest(first.hash, forged)
    async with tampering(resources) as tx:
        await tx.execute(
            update(AuditEvent).where(AuditEvent.number == first.number + 1).values(number=first.number + 2)
        )
        await tx.execute(insert(AuditEvent).values(**forged))
        said = await verdict(tx)
    assert said.startswith(f"Event {first.number + 2} was not written after event {first.number + 1}")


async def test_an_end_that_was_cut_off_is_missed_by_who_kept_a_head(resources: Resources) -> None:
    events = await write(resources, count=3)
    kept = await head(resources)
    async with tampering(resources) as tx:
        await tx.execute(delete(AuditEvent).where(AuditEvent.number > events[0].number))
        assert (await audit_trail.verify(tx)).number == events[0].number
        said = await verdict(tx, kept)
    assert said.endswith("the end is gone.")


async def test_a_log_that_was_written_anew_is_found_by_who_kept_a_head(resources: Resources) -> None:
    (event,) = await write(resources)
    kept = Head.parse(str(await head(resources)))
    forged = {**event._mapping, "target": "forged"}
    forged["hash"] = audit.digest(event.previous_hash, forged)
    async with tampering(resources) as tx:
        await tx.execute(update(AuditEvent).where(AuditEvent.number == event.number).values(**forged))
        assert await audit_trail.verify(tx) != kept
        said = await verdict(tx, kept)
    assert said == f"Event {event.number} is another than the one that was noted: the log was written anew."
    assert await head(resources) == kept


async def test_a_chain_of_more_than_one_batch_is_read_whole(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await write(resources, count=25, account_id=new_id())
    monkeypatch.setattr(audit_trail, "_BATCH", 10)
    batches = [
        [row.number for row in batch]
        async for batch in audit_trail.stream(resources.database, Filter(events[0].account_id))
    ]
    assert list(map(len, batches)) == [10, 10, 5]
    assert sum(batches, []) == [event.number for event in events]
    assert (await head(resources)).number == events[-1].number


async def test_an_auditor_can_prove_an_export_with_the_program_in_the_documentation(resources: Resources) -> None:
    program = re.search(r"```python\n(import hashlib.*?)```", PAGE.read_text(), re.DOTALL)[1]
    events = await write(resources, count=3, after={"amount_nanos": 7, "ratio": 0.1, "note": "ünï"})
    lines = audit_trail.json_lines([audit_trail.shown(event) for event in events])

    def proven(text: str) -> bool:
        return (
            subprocess.run(
                [sys.executable, "-c", program], input=text.encode(), stderr=subprocess.DEVNULL, check=False
            ).returncode
            == 0
        )

    assert proven(lines)
    assert not proven(lines.replace("ünï", "uni", 1))
    assert not proven(lines.replace(events[0].hash.hex(), "00" * 32, 1))
