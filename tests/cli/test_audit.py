"""`millrace audit` and `millrace account`: what an operator reads, proves and ends, past the api."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import accounts as account_commands
from cli import audit as commands
from cli.errors import Refusal
from core.ids import new_id
from core.people import accounts, audit, tokens
from core.people.audit_trail import Head
from core.resources import Resources
from core.settings import Settings

MILLRACE = Path(sys.executable).with_name("millrace")


@pytest.fixture
async def account(resources: Resources) -> tuple[str, str, str]:
    """Id, username and token."""
    async with resources.database.transaction() as tx:
        row = await accounts.ensure(tx, f"user-{new_id()}", "Some User")
        _, token = await tokens.create(tx, new_id(), row.id, "app")
    return row.id, row.username, token


async def test_what_an_operator_does_is_on_record_as_theirs(
    settings: Settings, resources: Resources, account: tuple[str, str, str]
) -> None:
    environment = {
        **os.environ,
        "MILLRACE_DATA": str(settings.data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [MILLRACE, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    _, username, token = account
    deleted = run("account", "delete", username, "--yes")
    assert deleted.stdout == f"{username} is deleted; within 2 seconds nobody is let in for it.\n"
    async with resources.database.autocommit() as tx:
        assert await tokens.caller(tx, token) is None
    exported = [json.loads(line) for line in run("audit", "export", "--account", username).stdout.splitlines()]
    assert [event["action"] for event in exported] == [
        "account.create",
        "token.create",
        "account.delete",
        "audit.export",
    ]
    assert {event["actor"] for event in exported[2:]} == {audit.operator().name}


async def test_a_head_that_was_kept_proves_the_log_or_shows_that_it_is_another(
    resources: Resources, account: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    await commands.verify("")(resources)
    sentence, kept = capsys.readouterr().out.splitlines()
    head = Head.parse(kept)
    assert sentence == f"All {head.number} events are as they were written. Keep this head elsewhere:"
    await commands.verify(kept)(resources)
    with pytest.raises(Refusal, match=f"The audit log is broken. Event {head.number} is another than"):
        await commands.verify(f"{head.number}:{'00' * 32}")(resources)


async def test_an_account_is_not_deleted_where_nobody_can_be_asked_or_says_so(
    resources: Resources, account: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    id, username, _ = account
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes"))
    with pytest.raises(Refusal, match="say --yes"):
        await account_commands.delete(username, "")(resources)
    async with resources.database.autocommit() as tx:
        assert (await accounts.get(tx, id)).deleted_at is None
    await account_commands.delete(username, "yes")(resources)
    with pytest.raises(Refusal, match=f"{username} was deleted on "):
        await account_commands.delete(username, "yes")(resources)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("xml", "", "", "", ""), "There is no format xml: choose jsonl or csv."),
        (
            ("csv", "", "", "soon", ""),
            "'soon' is no moment: write it like 2026-01-31 or 2026-01-31T12:00:00Z.",
        ),
    ],
)
def test_what_is_no_format_and_no_time_is_named(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Refusal) as refused:
        commands.export(*arguments)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("head", ["x", "1", "1:zz", ":"])
def test_what_is_no_head_is_refused(head: str) -> None:
    with pytest.raises(Refusal, match="is no head"):
        commands.verify(head)


async def test_a_csv_has_a_header_and_a_line_for_each_event(
    resources: Resources, account: tuple[str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    await commands.export("csv", account[1], "token.", "2020-01-01", "2100-01-01")(resources)
    header, line = capsys.readouterr().out.splitlines()
    assert header.startswith("number,at,actor,")
    assert ",token.create," in line


async def test_what_is_not_there_is_named(resources: Resources) -> None:
    for work in (commands.export("csv", "nobody-there", "", "", ""), account_commands.delete("nobody-there", "yes")):
        with pytest.raises(Refusal, match="There is no account nobody-there"):
            await work(resources)
