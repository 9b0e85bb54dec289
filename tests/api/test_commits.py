"""An answer is sent after the commit: one that says 2xx is true."""

from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import text

from core.resources import Resources

# Raises when the transaction commits, which is when a full disk or a lost connection does, too.
_REFUSE = """
CREATE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''the disk is full'' USING ERRCODE = ''disk_full''; END';
CREATE CONSTRAINT TRIGGER refuse_commit AFTER DELETE OR UPDATE ON files DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (OLD.name = 'unforgettable.txt') EXECUTE FUNCTION refuse_commit();
"""
_ALLOW = "DROP TRIGGER refuse_commit ON files; DROP FUNCTION refuse_commit();"


@pytest.fixture
async def refused_commits(resources: Resources) -> AsyncIterator[None]:
    async with resources.database.transaction() as tx:
        await tx.execute(text(_REFUSE))
    yield
    async with resources.database.transaction() as tx:
        await tx.execute(text(_ALLOW))


@pytest.mark.usefixtures("refused_commits")
async def test_a_commit_that_fails_is_no_success(client: httpx.AsyncClient) -> None:
    file = (await client.post("/v1/files", files={"content": ("unforgettable.txt", b"a")})).json()
    answer = await client.delete(file["urls"]["get"])
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert "disk" not in answer.text
    assert (await client.get(file["urls"]["get"])).status_code == 200
