"""Every check in turn. What is found is looked at again after a while: the platform mends itself, and only what stays
is worth a person's time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from core.doctor import books, connections, containers, deliveries, fleet, machine, predictions, secrets
from core.doctor.checks import Check, Finding, NotChecked
from core.resources import Resources

#: Several passes of each sweep.
AGAIN_SECONDS = 5.0

CHECKS: tuple[Check, ...] = (
    *predictions.CHECKS,
    *fleet.CHECKS,
    *containers.CHECKS,
    *deliveries.CHECKS,
    *books.CHECKS,
    *connections.CHECKS,
    *secrets.CHECKS,
    *machine.CHECKS,
)


@dataclass(frozen=True, slots=True)
class Result:
    """`not_checked` says why it could not be told."""

    check: Check
    findings: Sequence[Finding] = field(default_factory=list)
    not_checked: str | None = None


async def examine(
    resources: Resources, checks: Sequence[Check] = CHECKS, again_seconds: float = AGAIN_SECONDS
) -> list[Result]:
    """What each check finds, twice."""
    results = [await _run(resources, check) for check in checks]
    if not any(result.findings for result in results):
        return results
    await asyncio.sleep(again_seconds)
    return [await _still(resources, result) for result in results]


async def _still(resources: Resources, earlier: Result) -> Result:
    if not earlier.findings:
        return earlier
    known = {finding.subject for finding in earlier.findings}
    now = await _run(resources, earlier.check)
    return Result(earlier.check, [one for one in now.findings if one.subject in known], now.not_checked)


async def _run(resources: Resources, check: Check) -> Result:
    try:
        return Result(check, await check.find(resources))
    except NotChecked as reason:
        return Result(check, not_checked=str(reason))
    except RedisError as error:
        return Result(check, not_checked=f"Redis does not answer ({error}).")
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        # It took too long, or waits for a lock: the others may still be told.
        return Result(check, not_checked=f"Postgres refused: {' '.join(str(error.orig).split())}")
