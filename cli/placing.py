"""`millrace place owner/name[:version]`: on which nodes a model may run, beside whom, and whether it makes room."""

import sys

from rich.text import Text
from sqlalchemy import Row

from cli import showing
from cli.errors import Refusal
from cli.nodes import parsed
from cli.operating import Work, account_named, run
from core import catalog, versions
from core.errors import NotFound
from core.resources import Resources

_ASKED = {"yes": True, "no": False, "": None}


def place(reference: str, pin: str, share: str, *labels: str) -> Work:
    """Without anything asked it only shows how things are."""
    name, _, version_id = reference.partition(":")
    owner, slash, model_name = name.partition("/")
    if not slash:
        raise Refusal(f"{reference!r} is no model: write owner/name, or owner/name:version.")
    wanted = parsed(labels)

    async def work(resources: Resources) -> None:
        async with resources.database.transaction() as tx:
            account = await account_named(tx, owner)
            try:
                model = await catalog.get_model(tx, account.id, owner, model_name)
                id = version_id or model.latest_version_id
                if id is None:
                    raise Refusal(f"{name} has no version yet: publish one first.")
                row = await versions.place(
                    tx, model, id, node_labels=wanted, is_pinned=_ASKED[pin], shares_gpu=_ASKED[share]
                )
            except NotFound as error:
                raise Refusal(f"{reference}: {error}") from None
        showing.console().print(Text(described(name, row)), soft_wrap=True)

    return work


def described(name: str, row: Row) -> str:
    where = f"nodes with {showing.labels(row.node_labels)}" if row.node_labels else "any node that fits"
    room = "it makes room for nobody" if row.is_pinned else "idle, it makes room for others"
    beside = "it may share a GPU" if row.shares_gpu else "it shares a GPU only where the node says so"
    used = f"used {showing.gib(row.peak_bytes)} GiB of one at most" if row.peak_bytes else "has not been measured yet"
    terms = f"runs on {where}; {room}; {beside}. Later versions do as well."
    return f"{name}:{row.id[:12]} {terms} This one {used}."


def main() -> int:
    return run(place, *sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
