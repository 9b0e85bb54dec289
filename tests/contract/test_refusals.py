"""What each official client makes of a refusal: the status and the sentence reach its user."""

from collections.abc import Iterator

import pytest

from core.ids import new_id
from core.money import wallets
from core.resources import Resources
from core.settings import Settings
from tests.api.scene import Caller, Published, Scene
from tests.api.serving import serving
from tests.contract.clients import CLIENTS, Script, resources_script

CREATES_PER_MINUTE = 2
UPLOAD_BYTES = 100_000


@pytest.fixture(scope="module")
def strict(settings: Settings) -> Iterator[Settings]:
    limits = {"rate_creates_per_minute": CREATES_PER_MINUTE, "upload_bytes": UPLOAD_BYTES}
    with serving(settings.model_copy(update=limits)) as served:
        yield served


@pytest.fixture
async def account(resources: Resources) -> Caller:
    return await Scene(resources).caller()


@pytest.fixture
async def published(resources: Resources, account: Caller) -> Published:
    return await Scene(resources).publish(account)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, strict: Settings, account: Caller) -> Script:
    """One client after the other, speaking for an account of its own."""
    return resources_script(request).speaking_for(account.token).against(f"{strict.url}/v1")


async def test_a_wrong_token_is_called_one(client: Script) -> None:
    refused = await client.speaking_for("mr_wrong")("find", id=new_id())
    assert refused["status"] == 401
    assert "valid authentication token" in refused["detail"]


async def test_no_money_is_said_to_be_the_reason(
    client: Script, account: Caller, published: Published, resources: Resources
) -> None:
    async with resources.database.transaction() as tx:
        await wallets.set_terms(tx, account.id, credit_limit_nanos=0)
    refused = await client("create", version=published.version, input={"text": "Ada"})
    assert refused["status"] == 402
    assert "insufficient credit" in refused["detail"]


async def test_what_is_not_there_is_not_found(client: Script) -> None:
    assert await client("find", id=new_id()) == {
        "status": 404,
        "detail": "The requested prediction could not be found.",
    }


async def test_a_file_that_is_too_large_is_said_to_be(client: Script) -> None:
    refused = await client("upload", size=3 * 1024 * 1024)
    assert refused["status"] == 413
    assert "larger than" in refused["detail"]


async def test_each_field_of_a_wrong_input_is_named(client: Script, published: Published) -> None:
    refused = await client("create", version=published.version, input={"count": 99})
    assert refused["status"] == 422
    assert refused["detail"].splitlines() == [
        "- input: text is required",
        "- input.count: Must be less than or equal to 10",
    ]


async def test_who_hurries_is_told_for_how_long_to_wait(
    client: Script, account: Caller, published: Published, resources: Resources
) -> None:
    """Whatever the client does of itself: JavaScript asks six times more, at once."""
    for _ in range(CREATES_PER_MINUTE):
        bad = await client("create", version=published.version, input={})
        assert bad["status"] == 422
    refused = await client("create", version=published.version, input={"text": "Ada"})
    assert refused["status"] == 429
    assert "resets in ~" in refused["detail"]
