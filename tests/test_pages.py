"""What pages of docs/ say of the tests is so."""

import re

from tests.support.pages import ROOT, missing_tests, named_tests, page


def test_every_test_that_the_lessons_name_is_there() -> None:
    lessons = page("lessons.md")
    assert len(named_tests(lessons)) > 70
    assert missing_tests(lessons) == []


def test_every_lesson_is_held_by_a_test_or_says_why_by_none() -> None:
    held, _, not_yet = page("lessons.md").partition("## Not here yet")
    rows = [line for line in held.splitlines() if line.startswith("| ") and not line.startswith("| What went wrong")]
    assert len(rows) > 30
    assert [row for row in rows if not named_tests(row)] == []
    assert not named_tests(not_yet)


def test_the_table_of_faults_names_every_test_of_faults_and_no_other() -> None:
    faults = page("reliability.md").partition("## Faults")[2].partition("## millrace doctor")[0]
    named = set(re.findall(r"`(test_\w+)`", faults))
    assert named == {file.stem for file in (ROOT / "tests/faults").glob("test_*.py")}
