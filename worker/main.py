"""`python -m worker node | webhooks | jobs`: the processes that do the work; and `gpus`, which lists this machine's."""

import importlib
import sys

from core.log import configure
from core.settings import get_settings

COMMANDS = ("node", "webhooks", "jobs", "gpus")


def main() -> int:
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    if command not in COMMANDS:
        sys.stderr.write(f"usage: python -m worker {' | '.join(COMMANDS)}\n")
        return 2
    settings = get_settings()
    configure(settings, command)
    # Loaded by name, so that a process pays at its start only for the libraries it needs.
    return importlib.import_module(f"worker.commands.{command}").main(settings)
