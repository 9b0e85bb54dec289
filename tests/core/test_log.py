"""What a log line must not hold."""

import subprocess
import sys

import pytest

_BREAK = """
from core.log import configure, get_logger
from core.settings import Settings

def authenticate(header):
    raise RuntimeError("it broke")

configure(Settings(log_json={log_json}), "api")
try:
    authenticate("Bearer mr_1234567890")
except RuntimeError as error:
    get_logger().error("request broke", exc_info=error, token="mr_1234567890")
"""


@pytest.mark.parametrize("log_json", [True, False])
def test_a_logged_error_names_its_place_and_no_value(log_json: bool) -> None:
    """Local variables hold tokens, secrets and inputs."""
    ran = subprocess.run([sys.executable, "-c", _BREAK.format(log_json=log_json)], capture_output=True, text=True)
    assert "it broke" in ran.stderr
    assert "authenticate" in ran.stderr
    assert "mr_1234567890" not in ran.stderr.replace('authenticate("Bearer mr_1234567890")', "")
