"""Whom the embedded PostgreSQL runs as: it refuses to run as root, so there it gets a user of its own."""

import os
import pwd
import subprocess

from cli.errors import Refusal

_SYSTEM_USER = "millrace-postgres"


def system_user() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as: None means us. Makes that user where we are root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        command = ("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER)
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise Refusal(
            f"PostgreSQL does not run as root, and its user {_SYSTEM_USER} cannot be made "
            f"({made.stderr.strip()}); run Millrace as an ordinary user."
        )
    return pwd.getpwnam(_SYSTEM_USER)
