"""Older Cog does not say which prediction a file is of: it is of the one that the container runs."""

from types import SimpleNamespace
from typing import Any

import pytest

from worker.endpoint import UploadRefused
from worker.node import Node


class Kept:
    async def save(self, account_id: str, prediction_id: str, *file: object) -> str:
        return f"{account_id}/{prediction_id}"


def node(**at_work: bool) -> Any:
    """With one Instance, and what it has in hand."""
    runners = {
        id: SimpleNamespace(row=SimpleNamespace(id=id, account_id="a"), is_at_work=at_work[id]) for id in at_work
    }
    instances = {"i": SimpleNamespace(runners=runners)}
    return SimpleNamespace(_supervisors=instances, _around=SimpleNamespace(outputs=Kept()))


async def test_one_that_waits_for_its_turn_or_has_ended_is_not_meant() -> None:
    several = node(ended=False, runs=True, waits=False)
    assert await Node._save_output(several, "i", None, "out.png", "image/png", None) == "a/runs"


async def test_of_two_at_work_none_is() -> None:
    with pytest.raises(UploadRefused):
        await Node._save_output(node(one=True, two=True), "i", None, "out.png", "image/png", None)
