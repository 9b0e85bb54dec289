"""`millrace doctor`: examines the installation and says, in a sentence each, what is wrong and what to do."""

import sys
from collections.abc import Sequence

import orjson
from rich.text import Text
from sqlalchemy import text

import migrations
from cli import showing
from cli.operating import Work, operate
from core.doctor import examination
from core.doctor.checks import SHOWN, Check, Finding
from core.doctor.examination import Result
from core.resources import Resources

_OK, _BROKEN, _UNKNOWN = Text("✓", "green"), Text("✗", "bold red"), Text("–", "dim")


async def _migrated(resources: Resources) -> list[Finding]:
    newest = migrations.newest()
    async with resources.database.autocommit() as tx:
        found = await tx.scalar(text("SELECT string_agg(version_num, ', ') FROM alembic_version"))
    if found == newest:
        return []
    sentence = f"The database is at revision {found}, this program at {newest}: run `millrace setup` of the newer one."
    return [Finding("revision", sentence)]


MIGRATED = Check("schema", "The database's schema is the one this program knows.", _migrated)


def doctor(*options: str) -> Work:
    """`json`, and `quick`: without what takes longer the more was used. Exits with 1 where it finds something."""

    async def work(resources: Resources) -> None:
        checks = [MIGRATED, *examination.CHECKS]
        if "quick" in options:
            checks = [check for check in checks if not check.reads_everything]
        results = await examination.examine(resources, checks)
        if "json" in options:
            sys.stdout.write(orjson.dumps([_shown(result) for result in results], option=orjson.OPT_INDENT_2).decode())
            sys.stdout.write("\n")
        else:
            _print(results)
        found = sum(bool(result.findings) for result in results)
        if found:
            sys.exit(f"{found} of {len(results)} checks found something.")

    return work


def _print(results: Sequence[Result]) -> None:
    console, table = showing.console(), showing.checklist()
    for result in results:
        sign = _BROKEN if result.findings else _UNKNOWN if result.not_checked else _OK
        table.add_row(sign, result.check.name, Text(result.not_checked or result.check.promise))
        for finding in result.findings[:SHOWN]:
            table.add_row("", "", Text(finding.sentence, "red"))
        if len(result.findings) > SHOWN:
            table.add_row("", "", Text("There are more.", "red"))
    console.print(table)
    if not any(result.findings for result in results):
        console.print("Nothing is wrong.")


def _shown(result: Result) -> dict[str, object]:
    return {
        "check": result.check.name,
        "invariant": result.check.invariant,
        "promise": result.check.promise,
        "findings": [finding._asdict() for finding in result.findings[:SHOWN]],
        "has_more": len(result.findings) > SHOWN,
        "not_checked": result.not_checked,
    }


if __name__ == "__main__":
    sys.exit(operate(doctor(*sys.argv[1:])))
