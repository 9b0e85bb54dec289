"""`millrace billing reconcile`: shows that ledger, balances, usage and predictions agree, or says where they do not."""

import sys

from rich.table import Table
from rich.text import Text

from cli import showing
from cli.operating import operate
from core.money import reconciliation
from core.money.pricing import dollars
from core.money.reconciliation import CHECKS, SHOWN, Difference
from core.resources import Resources


async def reconcile(resources: Resources) -> None:
    """Prints every promise; exits with 1 where one does not hold."""
    async with resources.database.transaction() as tx:
        found = {difference.check.name: difference for difference in await reconciliation.differences(tx)}
        totals = await reconciliation.totals(tx)
    console, table = showing.console(), showing.checklist()
    for check in CHECKS:
        is_broken = check.name in found
        sign = Text("✗", "bold red") if is_broken else Text("✓", "green")
        table.add_row(sign, check.name, check.promise)
    console.print(table)
    console.print(
        f"\nLedger {dollars(int(totals.ledger_nanos))} = balances {dollars(int(totals.balance_nanos))} dollars; "
        f"{totals.usage_records} usage records of predictions."
    )
    for difference in found.values():
        console.print(_details(difference))
    if found:
        sys.exit(f"{len(found)} of {len(CHECKS)} promises do not hold.")
    console.print("The books agree.")


def _details(difference: Difference) -> Table:
    more = difference.count - SHOWN
    title = f"\n{difference.check.promise[:-1]}, but {difference.count} do not" + (
        f"; the first {SHOWN}" if more > 0 else ""
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("subject", "expected", "found"):
        table.add_column(name, justify="left" if name == "subject" else "right", no_wrap=True)
    for row in difference.rows:
        table.add_row(
            *(Text("none" if value is None else str(value)) for value in (row.subject, row.expected, row.found))
        )
    return table


if __name__ == "__main__":
    sys.exit(operate(reconcile))
