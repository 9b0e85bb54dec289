"""A real image registry on this machine: Debian's docker-registry, with its own folder and port."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

CONFIGURATION = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}:{port}"}}
"""
# The registry's own way to demand a token that nobody can have.
CLOSED = """
auth: {silly: {realm: nobody, service: nothing}}
"""
START_SECONDS = 30
STOP_SECONDS = 10


@contextmanager
def registry(folder: Path, closed: bool = False, address: str = "127.0.0.1") -> Iterator[str]:
    """Its `host:port`, from the moment it answers; a `closed` one lets nobody in."""
    port = free_port()
    configuration = folder / "registry.yml"
    text = CONFIGURATION.format(folder=folder / "images", port=port, address=address)
    configuration.write_text(text + CLOSED if closed else text)
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(configuration)], stdout=log, stderr=log)
        try:
            _wait_until_it_answers(process, f"http://{address}:{port}/v2/", folder / "registry.log")
            yield f"{address}:{port}"
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"docker-registry did not start:\n{log.read_text()[-2000:]}")
