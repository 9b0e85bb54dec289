"""In which container of an engine a process runs, as the kernel tells. Knows nothing of engines but their ids."""

import re
from pathlib import Path

_ID = re.compile(r"[0-9a-f]{64}")


def container_of(pid: int) -> str | None:
    """Its id; None: in none, or the process is gone, or hidden from here."""
    try:
        found = _ID.findall(Path(f"/proc/{pid}/cgroup").read_text())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return found[-1] if found else None
