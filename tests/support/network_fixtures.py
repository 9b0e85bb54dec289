"""Fixtures for tests that cut networks. A pytest plugin."""

from collections.abc import Iterator

import pytest

from tests.support.network import Network, missing, network


@pytest.fixture(scope="module")
def apart() -> Iterator[Network]:
    """Of the module's own, joined to this machine."""
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with network() as made:
        yield made
