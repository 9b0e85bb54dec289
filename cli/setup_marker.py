"""Whether the setup has anything to do: it leaves a mark of what it was run with, once all that it published is ready.

Only for databases that we embed, since nobody else changes those. Saves a second start the most of its time.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from cli.installation import Installation
from cli.model_folders import models_root

_ROOT = Path(__file__).parents[1]
# Everything whose change may change what the setup does.
_CODE = (
    "cli/setup.py",
    "core/bundles.py",
    "core/catalog.py",
    "core/cog_config.py",
    "core/dockerignore.py",
    "core/hardware.py",
    "migrations/versions/*.py",
)


class SetupMarker:
    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._path = installation.settings.data / "run" / "setup"
        self._current = hashlib.sha256("\n".join(self._inputs()).encode()).hexdigest()

    def matches(self) -> bool:
        is_ours = self._installation.postgres is not None
        return is_ours and self._path.exists() and self._path.read_text() == self._current

    def leave(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self._current)

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)

    def _inputs(self) -> Iterator[str]:
        settings, environment = self._installation.settings, self._installation.environment
        yield settings.model_dump_json(exclude={"data", "port", "host"})
        yield environment["MILLRACE_DATABASE_URL"]
        yield environment["MILLRACE_ADMIN_TOKEN"]
        # Stands for the list of GPUs, which takes loading the driver.
        yield from sorted(str(device) for device in Path("/dev").glob("nvidia[0-9]*"))
        files = [path for pattern in _CODE for path in _ROOT.glob(pattern)] + [*models_root(settings).rglob("*")]
        for path in sorted(files):
            if path.is_file() and "__pycache__" not in path.parts:
                status = path.stat()
                yield f"{path} {status.st_size} {status.st_mtime_ns}"
