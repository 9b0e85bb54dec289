"""`deploy/millrace-node.service`: what it says is there to be run, and systemd understands it."""

import configparser
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worker.commands.running import NOT_PERMITTED
from worker.main import COMMANDS

UNIT = Path(__file__).parents[1] / "deploy/millrace-node.service"


@pytest.fixture(scope="module")
def service() -> configparser.SectionProxy:
    # Systemd's names are as they are written, and it knows no comments after a value.
    unit = configparser.RawConfigParser(comment_prefixes="#", delimiters="=")
    unit.optionxform = str
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def test_it_starts_a_command_that_there_is(service: configparser.SectionProxy) -> None:
    _, *words = service["ExecStart"].split()
    assert words == ["-m", "worker", "node"]
    assert words[-1] in COMMANDS


def test_it_reloads_by_the_signal_that_puts_a_new_program_in_its_place(service: configparser.SectionProxy) -> None:
    command, signal_name, pid = service["ExecReload"].split()
    assert (command, pid) == ("/bin/kill", "$MAINPID")
    assert signal.Signals[f"SIG{signal_name.removeprefix('-')}"] is signal.SIGHUP


def test_it_does_not_start_again_what_nobody_lets_in(service: configparser.SectionProxy) -> None:
    assert service["RestartPreventExitStatus"] == str(NOT_PERMITTED)


def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed.")
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/millrace/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", here], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
