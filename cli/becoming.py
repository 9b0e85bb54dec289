"""How the command line turns into a program that needs the database, which is not imported for the others."""

import os
import sys

from cli import checks
from cli.installation import installation
from core.settings import get_settings


def become(module: str, *arguments: str) -> None:
    """Never returns. Its imports take a second, which `millrace health` has not got."""
    settings = get_settings()
    checks.writable(settings.data)
    environment = installation(settings).environment
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], dict(environment))
