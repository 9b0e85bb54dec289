"""Where the embedded servers listen: Unix sockets in a folder that nobody else may enter. Knows neither server."""

import hashlib
import os
import tempfile
from pathlib import Path

from cli.embedded.users import system_user
from cli.errors import Refusal

# `sun_path` holds 108 bytes with the closing zero; the longest name that goes into the folder is PostgreSQL's.
_LONGEST_PATH = 107
_LONGEST_NAME = ".s.PGSQL.5432"


def socket_folder(data: Path) -> Path:
    """A private folder with a path short enough, made if missing: under `data`, else under the temporary folder."""
    folder = data / "sockets"
    if len(os.fsencode(folder / _LONGEST_NAME)) > _LONGEST_PATH:
        digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The temporary folder is everybody's: one that somebody else put there would let them listen in our place.
    user = system_user()
    owners = {os.getuid()} if user is None else {os.getuid(), user.pw_uid}
    if folder.is_symlink() or folder.stat().st_uid not in owners:
        raise Refusal(f"{folder}, where the embedded servers listen, belongs to another user; remove it.")
    folder.chmod(0o700)
    return folder
