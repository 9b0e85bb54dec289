"""docs/compatibility.md names a test for each operation and each trap: they are there, and so is every operation."""

import re

from api.main import create_app
from core.settings import Settings
from tests.support.pages import ROOT, missing_tests, named_tests, page

PAGE = page("compatibility.md")


def test_every_test_that_the_page_names_is_there() -> None:
    assert len(named_tests(PAGE)) > 80
    assert missing_tests(PAGE) == []


def test_every_operation_on_the_page_is_in_our_own_document() -> None:
    paths = create_app(Settings(data=ROOT)).openapi()["paths"]
    ours = {operation["operationId"] for path in paths.values() for operation in path.values()}
    listed = re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)
    assert len(set(listed)) == 37
    assert set(listed) - ours == set()
