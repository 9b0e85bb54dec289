"""`millrace audit export|verify`: the audit log past the api, all of it or that of one account."""

import sys

from cli.errors import Refusal
from cli.moments import moment
from cli.operating import Work, account_named, run
from core.people import audit, audit_trail
from core.people.audit_trail import BrokenChain, Filter, Head
from core.resources import Resources


def export(format: str, account: str, action: str, since: str, until: str) -> Work:
    """To stdout, oldest first. On record itself, like an export by the api."""
    if format not in ("jsonl", "csv"):
        raise Refusal(f"There is no format {format}: choose jsonl or csv.")
    times = {"since": moment(since), "until": moment(until)}

    async def work(resources: Resources) -> None:
        async with resources.database.transaction() as tx:
            account_id = (await account_named(tx, account)).id if account else None
            asked = {"format": format, "action": action or None, **times}
            await audit.record(tx, "audit.export", "the audit log", account_id=account_id, after=asked)
        if format == "csv":
            sys.stdout.write(audit_trail.CSV_HEADER)
        lines = audit_trail.csv_lines if format == "csv" else audit_trail.json_lines
        async for batch in audit_trail.stream(resources.database, Filter(account_id, action or None, **times)):
            sys.stdout.write(lines([audit_trail.shown(row) for row in batch]))
        sys.stdout.flush()

    return work


def verify(head: str) -> Work:
    """Raises `Refusal` where the chain is broken."""
    known = _head(head)

    async def work(resources: Resources) -> None:
        try:
            async with resources.database.autocommit() as tx:
                now = await audit_trail.verify(tx, known)
        except BrokenChain as error:
            raise Refusal(f"The audit log is broken. {error}") from None
        sys.stdout.write(f"All {now.number} events are as they were written. Keep this head elsewhere:\n{now}\n")

    return work


_VERBS = {"export": export, "verify": verify}


def _head(text: str) -> Head | None:
    """Raises `Refusal`."""
    try:
        return Head.parse(text) if text else None
    except ValueError:
        raise Refusal(f"{text!r} is no head: give it as an earlier `millrace audit verify` printed it.") from None


def main() -> int:
    return run(_VERBS[sys.argv[1]], *sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
