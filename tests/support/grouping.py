"""Which tests share a worker when two run side by side: those of a file, for its fixtures; and all that use Docker,
because there is one engine and one set of images.

A pytest plugin: name it in `pytest_plugins`.
"""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = "docker" if item.get_closest_marker("docker") else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
