"""What was used: sums by any keys, the records behind them, and the tables that accountants and cost tools read."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, update

from core.clock import now
from core.lifecycle import PredictionStatus
from core.money import folding, prices
from core.resources import Resources
from core.settings import Settings
from core.tables import Account, UsageDay
from tests.api.conftest import client_of
from tests.api.scene import Caller, Published, Scene

CPU_NANOS = 100_000
SECOND = 1_000_000


@pytest.fixture
async def admin(api: Settings, scene: Scene, resources: Resources) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks for an admin of the server."""
    caller = await scene.caller()
    async with resources.database.transaction() as tx:
        await tx.execute(update(Account).where(Account.id == caller.id).values(is_admin=True))
    async with client_of(api, caller.token) as client:
        yield client


async def run(
    client: httpx.AsyncClient, scene: Scene, published: Published, micros: int, tags: str = "", **outcome: Any
) -> str:
    """The id of a prediction that has run so long."""
    headers = {"X-Millrace-Tags": tags} if tags else {}
    body = {"version": published.version, "input": {"text": "Ada"}}
    created = (await client.post("/v1/predictions", json=body, headers=headers)).json()
    await scene.finish(await scene.start(created["id"]), "hello", micros=micros, **outcome)
    return created["id"]


async def fold(resources: Resources, caller: Caller) -> None:
    async with resources.database.transaction() as tx:
        await folding.fold(tx, caller.id)


async def usage(client: httpx.AsyncClient, **parameters: Any) -> dict[str, Any]:
    answer = await client.get("/v1/usage", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def table(client: httpx.AsyncClient, path: str, **parameters: Any) -> list[dict[str, str]]:
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


@pytest.fixture
async def used(client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources) -> list[Published]:
    """Two Models: 1 s and 2 s of one, one of them failed, and 4 s of the other, for a team."""
    one, other = await scene.publish(caller), await scene.publish(caller)
    await run(client, scene, one, SECOND, "team=vision, project=catalogue")
    await run(client, scene, one, 2 * SECOND, status=PredictionStatus.FAILED, error="no")
    await run(client, scene, other, 4 * SECOND, "team=speech")
    await fold(resources, caller)
    return [one, other]


# --- sums -------------------------------------------------------------------------------------------------------------


async def test_everything_is_one_row_without_keys(client: httpx.AsyncClient, used: list[Published]) -> None:
    answer = await usage(client)
    [row] = answer["results"]
    assert row == {
        "runs": 3,
        "seconds": 7.0,
        "instance_seconds": 0.0,
        "amount_nanos": 7 * CPU_NANOS,
        "amount": "0.000700000",
    }
    assert (answer["total_nanos"], answer["total"]) == (7 * CPU_NANOS, "0.000700000")


async def test_usage_is_summed_by_any_keys(client: httpx.AsyncClient, used: list[Published], caller: Caller) -> None:
    one, other = used
    rows = (await usage(client, by="day", group="model,outcome"))["results"]
    today = f"{now().date()}T00:00:00.000000Z"
    assert [(row["start"], row["model"], row["outcome"], row["runs"], row["seconds"]) for row in rows] == [
        (today, other.model, "succeeded", 1, 4.0),
        (today, one.model, "failed", 1, 2.0),
        (today, one.model, "succeeded", 1, 1.0),
    ]
    [row] = (await usage(client, by="month", group="account,hardware,deployment,phase", model=one.model))["results"]
    assert row["start"] == f"{now().date().replace(day=1)}T00:00:00.000000Z"
    keys = [row[key] for key in ("account", "hardware", "deployment", "phase", "runs")]
    assert keys == [caller.username, "cpu", None, "active", 2]


async def test_versions_tokens_and_hours_come_from_finer_sums(client: httpx.AsyncClient, used: list[Published]) -> None:
    rows = (await usage(client, by="hour", group="version,token"))["results"]
    assert {row["version"] for row in rows} == {published.version for published in used}
    assert len({row["token"] for row in rows}) == 1
    [row] = (await usage(client, by="day", version=used[0].version))["results"]
    assert (row["runs"], row["amount_nanos"]) == (2, 3 * CPU_NANOS)


async def test_a_tag_tells_costs_apart_and_what_lacks_it_is_told_as_well(
    client: httpx.AsyncClient, used: list[Published]
) -> None:
    rows = (await usage(client, by="day", group="tag:team"))["results"]
    assert [(row["tag"], row["runs"], row["seconds"]) for row in rows] == [
        ("speech", 1, 4.0),
        (None, 1, 2.0),
        ("vision", 1, 1.0),
    ]
    [row] = (await usage(client, tag="team=vision", group="model"))["results"]
    assert (row["model"], row["runs"]) == (used[0].model, 1)
    assert (await usage(client, tag="team=nobody"))["results"] == []


async def test_what_is_not_added_up_yet_is_told(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    await run(client, scene, await scene.publish(caller), SECOND)
    answer = await usage(client)
    assert (answer["results"], answer["freshness"]["pending"]) == ([], 1)
    await fold(resources, caller)
    answer = await usage(client)
    assert (answer["results"][0]["runs"], answer["freshness"]["pending"]) == (1, 0)


async def test_a_day_is_included_and_a_moment_is_not(client: httpx.AsyncClient, used: list[Published]) -> None:
    today = now().date()
    assert len((await usage(client, **{"from": today, "to": today}))["results"]) == 1
    assert (await usage(client, **{"from": "2026-01-01", "to": f"{today}T00:00:00Z"}))["results"] == []
    answer = await usage(client, **{"from": "2024-02-28", "to": "2024-02-29"})
    assert (answer["from"], answer["to"]) == ("2024-02-28T00:00:00.000000Z", "2024-03-01T00:00:00.000000Z")


async def test_nobody_sees_anothers_use_but_an_admin_sees_all(
    client: httpx.AsyncClient,
    stranger: httpx.AsyncClient,
    admin: httpx.AsyncClient,
    used: list[Published],
    caller: Caller,
) -> None:
    assert (await usage(stranger))["results"] == []
    for path in ("/v1/usage", "/v1/usage/records", "/v1/usage/records.csv", "/v1/usage/focus.csv"):
        refused = await stranger.get(path, params={"account": caller.username})
        assert refused.status_code == 403
    [row] = (await usage(admin, account=caller.username))["results"]
    assert row["runs"] == 3
    everybody = (await usage(admin, group="account"))["results"]
    assert {"account": caller.username, "runs": 3}.items() <= next(
        row for row in everybody if row["account"] == caller.username
    ).items()
    missing = await admin.get("/v1/usage", params={"account": "nobody"})
    assert (missing.status_code, missing.json()["detail"]) == (400, "There is no account nobody.")


async def test_only_an_admin_sees_what_it_cost(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, used: list[Published], caller: Caller
) -> None:
    [row] = (await usage(admin, account=caller.username))["results"]
    assert (row["cost_nanos"], row["margin_nanos"], row["margin"]) == (0, 7 * CPU_NANOS, "0.000700000")
    [own] = (await usage(client))["results"]
    assert not {"cost", "cost_nanos", "margin", "margin_nanos"} & set(own)


async def test_idling_is_time_of_instances_with_its_own_cost_and_no_run(
    client: httpx.AsyncClient, admin: httpx.AsyncClient, used: list[Published], caller: Caller, resources: Resources
) -> None:
    idle = {"model": used[0].model, "deployment": "", "hardware_sku": "cpu", "phase": "idle", "outcome": ""}
    sums = {"runs": 0, "micros": 90 * SECOND, "amount_nanos": 5_000, "cost_nanos": 7_000}
    async with resources.database.transaction() as tx:
        await tx.execute(insert(UsageDay).values(day=now().date(), account_id=caller.id, **idle, **sums))
    [row] = (await usage(client, phase="idle"))["results"]
    assert (row["runs"], row["seconds"], row["instance_seconds"], row["amount_nanos"]) == (0, 0.0, 90.0, 5_000)
    [row] = (await usage(admin, account=caller.username, group="outcome", outcome=""))["results"]
    assert (row["outcome"], row["cost_nanos"], row["margin"]) == (None, 7_000, "-0.000002000")
    rows = (await usage(client, group="tag:team"))["results"]
    assert {row["tag"]: row["instance_seconds"] for row in rows} == {"speech": 0.0, "vision": 0.0, None: 90.0}


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"group": "colour"}, "Usage is not summed by 'colour'"),
        ({"group": "tag:a,tag:b"}, "Group by one tag at a time"),
        ({"group": "tag:a", "tag": "b=c"}, "Ask for one tag at a time"),
        ({"group": "tag:a,version"}, "Sums by tag know the account and the model, but not the version"),
        ({"group": "tag:a", "by": "hour"}, "Sums by tag are by the day"),
        ({"tag": "vision"}, "Write a tag as"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "`from` must be before `to`."),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "at most 1100 days"),
        ({"from": "2026-01-01", "to": "2026-03-01", "by": "hour"}, "at most 31 days"),
        ({"from": "2026-01-01T00:30:00Z", "to": "2026-03-01"}, "summed up by the hour"),
        ({"from": "yesterday"}, "Must be a day like 2026-01-31"),
        ({"from": "2026-01-01T00:00:00"}, "Must be a day like 2026-01-31"),
        ({"from": "2026-02-30"}, "Must be a day like 2026-01-31"),
        ({"to": "9999-12-31"}, "Must be a day like 2026-01-31"),
        ({"to": "0001-01-01"}, "before all time"),
        ({"by": "year"}, "hour"),
    ],
)
async def test_what_cannot_be_asked_is_answered_with_a_sentence(
    client: httpx.AsyncClient, parameters: dict[str, str], sentence: str
) -> None:
    answer = await client.get("/v1/usage", params=parameters)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


# --- records ----------------------------------------------------------------------------------------------------------


async def test_records_are_listed_newest_first_with_what_they_were_charged(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, used: list[Published], caller: Caller
) -> None:
    records = (await client.get("/v1/usage/records")).json()["results"]
    assert [record["seconds"] for record in records] == [4.0, 2.0, 1.0]
    newest = records[0]
    assert newest["id"] == f"prediction:{newest['prediction']}"
    assert (newest["account"], newest["model"], newest["tags"]) == (caller.username, used[1].model, {"team": "speech"})
    assert (newest["amount_nanos"], newest["price_per_second"]) == (4 * CPU_NANOS, "0.000100000")
    assert (await stranger.get("/v1/usage/records")).json()["results"] == []


@pytest.mark.parametrize(
    ("parameters", "seconds"),
    [
        ({"outcome": "failed"}, [2.0]),
        ({"tag": "team=vision"}, [1.0]),
        ({"min_amount": "0.0002"}, [4.0, 2.0]),
        ({"to": "2026-01-01"}, []),
        ({"phase": "idle"}, []),
        ({"token": "nothing"}, []),
        ({"deployment": ""}, [4.0, 2.0, 1.0]),
        ({"outcome": ""}, []),
    ],
)
async def test_records_are_found_by_what_they_say(
    client: httpx.AsyncClient, used: list[Published], parameters: dict[str, str], seconds: list[float]
) -> None:
    records = (await client.get("/v1/usage/records", params=parameters)).json()["results"]
    assert [record["seconds"] for record in records] == seconds
    rows = await table(client, "/v1/usage/records.csv", **parameters)
    assert sorted(float(row["seconds"]) for row in rows) == sorted(seconds)


async def test_an_admin_pages_through_the_records_of_everybody(
    admin: httpx.AsyncClient, used: list[Published], caller: Caller
) -> None:
    found: list[str] = []
    answer = (await admin.get("/v1/usage/records")).json()
    while True:
        found += [record["id"] for record in answer["results"]]
        if answer["next"] is None:
            break
        answer = (await admin.get(answer["next"])).json()
    assert len(found) == len(set(found))
    own = (await admin.get("/v1/usage/records", params={"account": caller.username})).json()["results"]
    assert {record["id"] for record in own} <= set(found)


async def test_a_table_of_records_is_exact_and_safe_in_a_spreadsheet(
    client: httpx.AsyncClient, scene: Scene, caller: Caller
) -> None:
    await run(client, scene, await scene.publish(caller), 1_234_567, "note==SUM(A1)")
    [row] = await table(client, "/v1/usage/records.csv")
    assert (row["seconds"], row["amount"], row["price_per_second"]) == ("1.234567", "0.000123456", "0.000100000")
    assert (row["account"], row["tags"]) == (caller.username, '{"note":"=SUM(A1)"}')


# --- FOCUS ------------------------------------------------------------------------------------------------------------


async def test_a_cost_tool_gets_what_was_charged_with_tags_and_prices(
    client: httpx.AsyncClient, used: list[Published], caller: Caller
) -> None:
    today = now().date()
    rows = await table(client, "/v1/usage/focus.csv", **{"from": today, "to": today})
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("0.0007")
    row = next(row for row in rows if row["Tags"] == '{"team":"speech"}')
    expected = {
        "BillingAccountId": caller.id,
        "BillingAccountName": caller.username,
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargePeriodStart": f"{today}T00:00:00.000000Z",
        "ConsumedQuantity": "4.000000",
        "ListUnitPrice": "0.000100000",
        "PricingUnit": "Seconds",
        "ResourceId": used[1].model,
        "SkuId": "cpu",
        "SkuPriceId": "hardware:cpu",
        "x_Runs": "1",
    }
    assert expected.items() <= row.items()
    assert Decimal(row["ContractedCost"]) == Decimal(row["ListCost"]) == Decimal("0.0004")


async def test_a_price_of_ones_own_stands_beside_the_list_price(
    client: httpx.AsyncClient, scene: Scene, caller: Caller, resources: Resources
) -> None:
    published = await scene.publish(caller)
    own = {"kind": "hardware", "subject": "cpu", "nanos_per_unit": 40_000, "created_by": "somebody"}
    async with resources.database.transaction() as tx:
        await prices.put(tx, account_id=caller.id, **own)
    await run(client, scene, published, 2 * SECOND)
    [row] = await table(client, "/v1/usage/focus.csv")
    costs = [Decimal(row[name]) for name in ("BilledCost", "ContractedCost", "ListCost")]
    assert costs == [Decimal("0.00008"), Decimal("0.00008"), Decimal("0.0002")]


@pytest.mark.parametrize(
    "parameters", [{"from": "2020-01-01"}, {"from": "2026-02-01", "to": "2026-01-01"}, {"from": "x"}]
)
async def test_a_cost_table_is_of_a_year_at_most(client: httpx.AsyncClient, parameters: dict[str, str]) -> None:
    assert (await client.get("/v1/usage/focus.csv", params=parameters)).status_code == 422


async def test_many_exports_at_once_leave_connections_for_others(
    client: httpx.AsyncClient, used: list[Published]
) -> None:
    downloads = [table(client, "/v1/usage/records.csv") for _ in range(20)]
    *tables, answer = await asyncio.gather(*downloads, usage(client))
    assert [len(rows) for rows in tables] == [3] * 20
    assert answer["total_nanos"] == 7 * CPU_NANOS
