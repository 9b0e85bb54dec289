"""Promises 3 to 5: the proof of the books, as `millrace billing reconcile` shows it in full."""

from core.doctor.checks import Check, Finding
from core.money import reconciliation
from core.resources import Resources

_SENTENCE = "{promise} {count} do not, the first is {subject}: `millrace billing reconcile` shows by how much."


async def _differences(resources: Resources) -> list[Finding]:
    async with resources.database.transaction() as tx:
        found = await reconciliation.differences(tx)
    return [
        Finding(
            difference.check.name,
            _SENTENCE.format(
                promise=difference.check.promise, count=difference.count, subject=difference.rows[0].subject
            ),
        )
        for difference in found
    ]


CHECKS = (
    Check(
        "books",
        "Everything is charged once and at its price, holds are what is set aside, and every sum agrees.",
        _differences,
        3,
        reads_everything=True,
    ),
)
