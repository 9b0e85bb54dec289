"""A month of a small installation, for the billing pages: three teams, five Models, two kinds of machines.

What lies in the past is written as rows (`past_use`); money, limits, prices and today's runs come by the real verbs.
The same numbers every time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from core import catalog, predictions
from core.catalog import Runnable
from core.clock import now
from core.database import Transaction
from core.ids import new_id
from core.lifecycle import PredictionStatus
from core.money import by_hand, credits, folding, limits, wallets
from core.money.pricing import MICROS_PER_SECOND, NANOS_PER_DOLLAR, amount_nanos
from core.people import accounts, tokens
from core.predictions import Outcome, Request
from core.resources import Resources
from core.tables import CapacityHour, Price, UsageRecord, WalletPosting
from tests.support.factories import TEXT_OUTPUT, add_instance, add_node
from tests.support.past_use import use

L40S, H100 = "gpu-l40s", "gpu-h100"
PRICES = {L40S: 975_000, H100: 1_525_000}
#: An hour of it, to the operator.
COSTS = {L40S: 320_000_000, H100: 680_000_000}
_NAMES = {L40S: "Nvidia L40S GPU", H100: "Nvidia H100 GPU"}
_MODELS = {"upscale": L40S, "segment": L40S, "transcribe": H100, "embed": L40S, "product-shots": H100}
_OWNERS = {"upscale": 0, "segment": 0, "transcribe": 1, "embed": 1, "product-shots": 2}
#: Runs a day, by team: how it really is spread.
_HABITS = (
    {"upscale": 9, "segment": 4, "transcribe": 1},
    {"transcribe": 5, "embed": 6},
    {"product-shots": 5, "upscale": 2},
)
DAYS = 40


@dataclass(frozen=True, slots=True)
class Scene:
    """`teams` are vision-team, research and shop, with the suffix that tells this scene from others."""

    teams: tuple[Row, ...]
    models: dict[str, str]
    """`owner/name` by name."""
    run_id: str
    """A prediction of the first team that ran and was charged just now, with a hold."""

    @property
    def vision(self) -> Row:
        return self.teams[0]


async def furnish(resources: Resources, suffix: str = "", days: int = DAYS) -> Scene:
    random = Random(7)
    async with resources.database.transaction() as tx:
        teams = tuple([await _team(tx, f"{name}{suffix}") for name in ("vision-team", "research", "shop")])
        for sku, price in PRICES.items():
            await catalog.put_hardware(tx, sku, _NAMES[sku], price)
        await _costs(tx)
        runnables = {name: await _model(tx, teams[_OWNERS[name]], name, sku) for name, sku in _MODELS.items()}
        used = [await tokens.create(tx, new_id(), team.id, "production") for team in teams]
        await _money(tx, teams)
        await _limits(tx, teams)
    names = {name: runnable.model for name, runnable in runnables.items()}
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    failed = None
    for back in range(days, -1, -1):
        async with resources.database.transaction() as tx:
            day = today - timedelta(days=back)
            failed = await _day(tx, random, day, teams, names, [token.id for token, _ in used]) or failed
            await _capacity(tx, day)
    async with resources.database.transaction() as tx:
        while await folding.fold(tx):
            pass
    if failed:
        async with resources.database.transaction() as tx:
            usage = await tx.one(select(UsageRecord).where(UsageRecord.id == failed))
            reason = "The driver of this machine was broken that day"
            await by_hand.refund(tx, usage, id=new_id(), amount_nanos=None, reason=reason, actor="admin")
    run_id = await _run(resources, teams[0], runnables["upscale"], used[0][0].id)
    return Scene(teams, names, run_id)


async def _team(tx: Transaction, username: str) -> Row:
    return await accounts.ensure(tx, username, username.replace("-", " ").capitalize(), "organization")


async def _costs(tx: Transaction) -> None:
    for sku, nanos in COSTS.items():
        values = {"id": f"cost:{sku}", "kind": "cost", "subject": sku, "metric": "hour", "nanos_per_unit": nanos}
        adding = upsert(Price).values(**values, effective_from=datetime.fromisoformat("2020-01-01T00:00:00+00:00"))
        adding = adding.values(created_by="admin", reason="Lease and power of a year, by the hour")
        await tx.execute(adding.on_conflict_do_nothing(index_elements=["id"]))


async def _model(tx: Transaction, owner: Row, name: str, sku: str) -> Runnable:
    model = await catalog.ensure_model(tx, owner.id, name, sku, visibility="public")
    limits = {"slots": 1, "timeout_seconds": 60, "setup_timeout_seconds": 60}
    id = await catalog.publish(tx, model.id, "bundle", new_id(), config={}, cog_version="0.23.1", **limits)
    await catalog.prepared(tx, id, openapi_schema=TEXT_OUTPUT, cog_version="0.23.1", slots=1, config={})
    return await catalog.resolve(tx, owner.id, id)


async def _money(tx: Transaction, teams: tuple[Row, ...]) -> None:
    async def add(team: Row, dollars: float, kind: str, reason: str, **terms: Any) -> None:
        nanos = int(dollars * NANOS_PER_DOLLAR)
        money = {"kind": kind, "amount_nanos": nanos, "reason": reason, "actor": "admin", **terms}
        await by_hand.give(tx, team.id, id=new_id(), **money)

    await wallets.set_terms(tx, teams[0].id, credit_limit_nanos=0, low_balance_nanos=20 * NANOS_PER_DOLLAR)
    await wallets.set_terms(tx, teams[1].id, credit_limit_nanos=500 * NANOS_PER_DOLLAR)
    await wallets.set_terms(tx, teams[2].id, credit_limit_nanos=0, low_balance_nanos=50 * NANOS_PER_DOLLAR)
    await add(teams[0], 1200, credits.PAID, "Bank transfer, budget of the second quarter")
    await add(teams[0], 25, credits.PROMOTIONAL, "Launch credit", expires_at=now() + timedelta(days=60))
    await add(teams[1], 100, credits.PROMOTIONAL, "Grant for the transcription study")
    await add(teams[2], 230, credits.PAID, "Bank transfer")
    await by_hand.take(
        tx, teams[2].id, id=new_id(), amount_nanos=2 * NANOS_PER_DOLLAR, reason="Entered twice", actor="admin"
    )


async def _limits(tx: Transaction, teams: tuple[Row, ...]) -> None:
    await limits.put(tx, teams[0].id, scope="account", limit_nanos=800 * NANOS_PER_DOLLAR)
    model = f"{teams[0].username}/segment"
    await limits.put(
        tx, teams[0].id, scope="model", subject=model, limit_nanos=250 * NANOS_PER_DOLLAR, stops=False, thresholds=[80]
    )


async def _day(
    tx: Transaction, random: Random, day: datetime, teams: tuple[Row, ...], models: dict[str, str], token_ids: list[str]
) -> str | None:
    """The id of a run that failed, if one did."""
    failed = None
    weekend = 0.3 if day.weekday() > 4 else 1.0
    for team, habit, token_id in zip(teams, _HABITS, token_ids, strict=True):
        for name, often in habit.items():
            for _ in range(max(1, round(often * weekend * random.uniform(0.5, 1.4)))):
                ended = day + timedelta(hours=random.triangular(0.2, 23.6, 14), seconds=random.uniform(0, 59))
                if ended > now():
                    continue
                id, is_failed = await _past_run(tx, random, team, models[name], _MODELS[name], token_id, ended)
                failed = id if is_failed else failed
    for name, sku in _MODELS.items():
        owner = teams[_OWNERS[name]]
        for phase, seconds in (("setup", 90), ("idle", 7000), ("active", 6200)):
            ran = round(seconds * weekend * random.uniform(0.4, 1.3) * MICROS_PER_SECOND)
            is_private = name == "segment"
            price = PRICES[sku] if is_private else 0
            ended = day + timedelta(hours=20, seconds=random.uniform(0, 3000))
            if ended > now():
                continue
            await use(
                tx,
                owner,
                ended,
                amount_nanos(ran, price),
                is_folded=False,
                cause_kind="instance",
                phase=phase,
                model=models[name],
                deployment=f"{owner.username}/{name}-live" if is_private else None,
                hardware_sku=sku,
                micros=ran,
                price_id=f"hardware:{sku}" if is_private else None,
                price_nanos_per_second=price,
            )
    return failed


async def _past_run(
    tx: Transaction, random: Random, team: Row, model: str, sku: str, token_id: str, ended: datetime
) -> tuple[str, bool]:
    ran = round(random.lognormvariate(6.2, 0.7) * MICROS_PER_SECOND)
    failed = random.random() < 0.04
    id = await use(
        tx,
        team,
        ended,
        amount_nanos(ran, PRICES[sku]),
        is_folded=False,
        model=model,
        hardware_sku=sku,
        token_id=token_id,
        tags={"project": random.choice(("catalogue", "archive", "website"))},
        outcome="failed" if failed else "succeeded",
        failure_code="model_error" if failed else None,
        micros=ran,
        price_id=f"hardware:{sku}",
        price_nanos_per_second=PRICES[sku],
        started_at=ended - timedelta(microseconds=ran),
    )
    return id, failed


async def _capacity(tx: Transaction, day: datetime) -> None:
    await tx.execute(
        insert(CapacityHour),
        [
            {
                "hour": day + timedelta(hours=hour),
                "node": f"box-{sku}-{new_id()}",
                "hardware_sku": sku,
                "devices": devices,
                "micros": devices * 3600 * MICROS_PER_SECOND,
            }
            for hour in range(24)
            for sku, devices in ((L40S, 1), (H100, 1))
        ],
    )


async def _run(resources: Resources, team: Row, runnable: Runnable, token_id: str) -> str:
    """By all the verbs there are, with money held for it."""
    tags = {"project": "catalogue"}
    async with resources.database.transaction() as tx:
        held = 20_000_000
        request = Request(team.id, runnable, {"text": "hello"}, token_id=token_id, tags=tags, hold_nanos=held)
        waiting = await predictions.create(tx, request)
    async with resources.database.transaction() as tx:
        node = await add_node(tx)
        instance_id = await add_instance(tx, node, runnable)
        row = await predictions.start(tx, waiting.id, instance_id, node.boot_id)
        await predictions.finish(tx, row.id, row.attempt, Outcome(PredictionStatus.SUCCEEDED, micros=3_412_345))
        await folding.fold(tx, team.id)
    return waiting.id


async def add_usage_with_long_names(resources: Resources) -> None:
    """Of an account of its own, just now: so it stands first."""
    id, long = new_id(), "a-long-name-" + 60 * "n"
    async with resources.database.transaction() as tx:
        account = await accounts.ensure(tx, f"user-{new_id()}", "somebody")
        record = {
            "id": f"prediction:{id}",
            "cause_kind": "prediction",
            "cause_id": id,
            "account_id": account.id,
            "account_name": account.username,
            "model": f"{account.username}/{long}",
            "version_id": 64 * "a",
            "deployment": f"{account.username}/{long}",
            "hardware_sku": f"gpu-{50 * 'x'}",
            "tags": {"project": long},
            "outcome": "succeeded",
            "micros": 1_000_000,
            "price_nanos_per_second": 10**12,
            "amount_nanos": 10**12,
            "day": now().date(),
            "ended_at": now(),
        }
        await tx.execute(insert(UsageRecord).values(record))
        await tx.execute(
            insert(WalletPosting).values(
                {
                    "account_id": account.id,
                    "amount_nanos": -(10**12),
                    "released_nanos": 0,
                    "usage_record_id": record["id"],
                }
            )
        )
        await folding.fold(tx, account.id)
        # Of a billion dollars, for a reason and by somebody of one piece.
        money = {"amount_nanos": 10**18 - 1, "reason": long, "actor": f"somebody-via-{long}"}
        await credits.add(tx, account.id, kind=credits.PROMOTIONAL, **money)
