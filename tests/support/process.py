"""One process that a test starts, kills and starts again; the kernel ends it with the test run."""

import asyncio
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_GRACE_SECONDS = 30.0
_LOG_LINES = 40


@dataclass(slots=True)
class Process:
    """Running or not."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    privileges: Sequence[str] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    before_start: Callable[[], None] = lambda: None
    is_wanted: bool = field(default=False, init=False)
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.name} was never started"
        return self._child.pid

    def start(self) -> None:
        assert not self.is_running, f"{self.name} runs already"
        self.before_start()
        self.is_wanted = True
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                ["setpriv", "--pdeathsig", self.stop_signal.name.removeprefix("SIG"), *self.privileges, *self.command],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def send(self, number: int) -> None:
        assert self._child is not None, f"{self.name} was never started"
        self._child.send_signal(number)

    async def wait(self, seconds: float = _GRACE_SECONDS) -> int:
        """Until it ends; with which status."""
        assert self._child is not None, f"{self.name} was never started"
        return await asyncio.to_thread(self._child.wait, seconds)

    async def stop(self) -> None:
        """In order, and if that takes too long, not."""
        if not self.is_running:
            return
        self.send(signal.SIGCONT)
        self.send(self.stop_signal)
        try:
            await self.wait()
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            await self.wait()

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-_LOG_LINES:])
