"""`millrace billing` and `millrace account`: what an operator does with money, past the api, and puts on record."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import select

from cli import billing as commands
from cli.errors import Refusal
from core import catalog, predictions
from core.errors import Conflict, Invalid, NotFound
from core.ids import new_id
from core.money import entries, wallets
from core.money.pricing import NANOS_PER_DOLLAR
from core.people import accounts, audit
from core.predictions import Request
from core.resources import Resources
from core.settings import Settings
from core.tables import AuditEvent
from tests.api.scene import Caller, Scene

MILLRACE = Path(sys.executable).with_name("millrace")


@pytest.fixture
async def username(resources: Resources) -> str:
    async with resources.database.transaction() as tx:
        return (await accounts.ensure(tx, f"user-{new_id()}", "Some User")).username


async def do(resources: Resources, verb: Callable[..., Awaitable[Any]], *arguments: str) -> str:
    """What a command prints."""
    async with resources.database.transaction() as tx:
        shown = await verb(tx, *arguments)
    written = io.StringIO()
    Console(file=written, width=1000, highlight=False, markup=False).print(shown, soft_wrap=isinstance(shown, str))
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


async def balance_of(resources: Resources, username: str) -> int:
    async with resources.database.autocommit() as tx:
        return int((await wallets.get(tx, (await accounts.by_username(tx, username)).id)).balance_nanos)


async def test_an_operator_makes_an_account_and_moves_its_money(settings: Settings, resources: Resources) -> None:
    environment = {
        **os.environ,
        "MILLRACE_DATA": str(settings.data),
        "MILLRACE_DATABASE_URL": settings.database_url,
        "MILLRACE_REDIS_URL": settings.redis_url,
        "MILLRACE_CREDIT_LIMIT": "0",
        "MILLRACE_STARTING_CREDIT": "2.5",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [MILLRACE, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    name = f"user-{new_id()}"
    made = run("account", "create", name, "--name", "Some User")
    assert made.stdout == f"{name} is there; `millrace token create --account {name}` lets somebody in.\n", made.stderr
    assert run("account", "create", name).stderr == f"There is an account {name} already.\n"
    paid = run("billing", "top-up", name, "10", "--reason", "invoice 7", "--expires", "2099-01-01", "--priority", "3")
    assert re.fullmatch(
        rf"Credit \w+ of 10\.000000000 dollars is in the wallet\. {name} has 12\.500000000 dollars\.\n", paid.stdout
    ), paid.stderr
    refused = run("billing", "adjust", name, "1000000000000", "--reason", "slip")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "An amount is between 0 and 1000000000.000000000 dollars.\n"
    assert re.search(rf"^{name} +user +12\.500000000 +0\.000000000 ", run("account", "list").stdout, re.MULTILINE)
    async with resources.database.autocommit() as tx:
        account = await accounts.by_username(tx, name)
        own = select(AuditEvent).where(AuditEvent.account_id == account.id, AuditEvent.action == "credit.top_up")
        [event] = await tx.all(own)
        [credit] = [row for row in await entries.page(tx, entries.Filter(account.id), 10) if row.kind == "top_up"]
    assert event.actor == credit.actor == audit.operator().name


async def test_a_wallet_is_shown_as_it_is_and_on_which_terms(resources: Resources, username: str) -> None:
    assert "without limit" in await do(resources, commands.balance, username)
    shown = await do(resources, commands.terms, username, "100", "finish", "5")
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in shown.splitlines())
    assert facts == {
        "balance": "0.000000000",
        "held": "0.000000000",
        "spendable": "100.000000000",
        "credit limit": "100.000000000",
        "told below": "5.000000000",
        "when empty": "runs may end, and are owed",
    }
    shown = await do(resources, commands.terms, username, "none", "", "")
    assert re.search(r"credit limit +without limit", shown)
    assert re.search(r"told below +5\.0", shown)
    assert "runs may end" in shown


async def test_promotional_credit_and_what_is_taken_out_are_told(resources: Resources, username: str) -> None:
    await do(resources, commands.promote, username, "3", "welcome", "", "")
    taken = await do(resources, commands.adjust, username, "1.25", "typed wrong", "")
    assert taken == f"1.250000000 dollars are taken out. {username} has 1.750000000 dollars."
    with pytest.raises(Conflict, match=r"^The wallet has 1\.750000000 dollars"):
        await do(resources, commands.adjust, username, "2", "more", "")
    await do(resources, commands.adjust, username, "2", "more", "owe")
    assert await balance_of(resources, username) == -NANOS_PER_DOLLAR // 4


async def test_a_charge_is_given_back_in_part_and_then_the_rest(resources: Resources) -> None:
    scene = Scene(resources)
    caller = await scene.caller()
    id = await charged(resources, scene, caller)
    part = await do(resources, commands.refund, id, "0.00004", "noise")
    assert part == f"{caller.username} has 0.000040000 of 0.000100000 dollars back."
    rest = await do(resources, commands.refund, id, "", "all of it")
    assert rest == f"{caller.username} has 0.000060000 of 0.000100000 dollars back."
    with pytest.raises(Conflict, match="0.000000000 are left"):
        await do(resources, commands.refund, id, "", "again")
    with pytest.raises(NotFound, match="has not been charged"):
        await do(resources, commands.refund, "nothing", "", "x")


async def charged(resources: Resources, scene: Scene, caller: Caller) -> str:
    published = await scene.publish(caller)
    async with resources.database.transaction() as tx:
        runnable = await catalog.resolve(tx, caller.id, published.version)
        row = await predictions.create(tx, Request(caller.id, runnable, {"text": "Ada"}))
    await scene.finish(await scene.start(row.id), "hello", micros=1_000_000)
    return row.id


async def test_prices_are_set_with_all_their_terms_and_listed(resources: Resources, username: str) -> None:
    async with resources.database.transaction() as tx:
        sku = f"gpu-{new_id()}"
        await catalog.put_hardware(tx, sku, sku, 1_000_000)
    told = await do(resources, commands.price, sku, "0.002", "", "", "0", "", "dearer power")
    assert re.fullmatch(rf"{sku}: 0\.002000000 dollars per second for everybody, from [\d: -]+ UTC on\.", told)
    own = ("0.0015", "", username, "60", "2099-01-01", "a friend", "3600:0.001")
    await do(resources, commands.price, sku, *own)
    await do(resources, commands.price, sku, "none", "", username, "0", "", "")
    await do(resources, commands.cost, sku, "1.89", "", "rent")
    listed = await do(resources, commands.list_prices, sku)
    lines = [re.split(r"  +", line) for line in listed.splitlines()]
    assert [line[:5] for line in lines] == [
        ["kind", "subject", "per", "dollars", "account"],
        ["cost", sku, "hour", "1.890000000", "everybody"],
        ["hardware", sku, "second", "0.001500000", username],
        ["hardware", sku, "second", "none", username],
        ["hardware", sku, "second", "0.002000000", "everybody"],
        ["hardware", sku, "second", "0.001000000", "everybody"],
    ]
    assert lines[2][5:] == ["2099-01-01 00:00 UTC", "60 free, 0.001000000 above 3600", "a friend"]


async def test_a_model_is_priced_by_what_it_counts(resources: Resources) -> None:
    told = await do(resources, commands.price, "ada/draw", "0.01", "image_count", "", "0", "", "")
    assert told.startswith("ada/draw: 0.010000000 dollars per image_count for everybody")


@pytest.mark.parametrize("amount", ["NaN", "1,5", "", "1e400", "-1", "0.0000000001", "1e-400", "ten"])
async def test_what_is_no_amount_moves_nothing(resources: Resources, username: str, amount: str) -> None:
    with pytest.raises((Refusal, Invalid)):
        await do(resources, commands.top_up, username, amount, "a slip", "", "")
    assert await balance_of(resources, username) == 0


@pytest.mark.parametrize(
    ("verb", "arguments", "sentence"),
    [
        (commands.balance, ["nobody"], "There is no account nobody."),
        (commands.top_up, ["nobody", "1", "x", "", ""], "There is no account nobody."),
        (commands.price, ["cpu", "1", "", "nobody", "0", "", ""], "There is no account nobody."),
        (commands.price, ["cpu", "1", "", "", "0", "", "", "1000"], "'1000' is no step"),
        (commands.price, ["cpu", "1", "", "", "0", "soon", ""], "'soon' is no moment"),
    ],
)
async def test_what_is_wrong_is_named(
    resources: Resources, verb: Callable[..., Awaitable[Any]], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(Refusal, match=re.escape(sentence)):
        await do(resources, verb, *arguments)
