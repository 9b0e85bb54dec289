"""The Debian image that every image of the tests is built on. CI can pull none, so debootstrap makes it.

Made once per machine: kept as a tag in the engine, and as a tarball under `~/.cache/millrace-tests` (or
MILLRACE_TEST_CACHE) for when the engine has lost it. It trusts the certificate authorities this machine trusts and
asks the package index this machine asks, so that pip works inside a build; it never leaves the machine.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv", "tini")
HOST_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Raise it when something below changes that the package list does not show.
RECIPE = 1
# Debian's mirrors are quick; two busy cores need two minutes to unpack.
DEBOOTSTRAP_SECONDS = 900

NAME = "millrace-test/base"


def base_image(client: docker.DockerClient) -> str:
    """Its tag; the first call on a machine takes a minute or two."""
    key = hashlib.sha256(repr((SUITE, PACKAGES, RECIPE, _pip_configuration())).encode()).hexdigest()[:12]
    tag = f"{NAME}:{key}"
    cache = Path(os.environ.get("MILLRACE_TEST_CACHE") or "~/.cache/millrace-tests").expanduser()
    tarball = cache / f"base-{key}.tar"
    with _one_at_a_time(cache):
        if not client.images.list(name=tag):
            if not tarball.exists():
                _debootstrap(tarball)
            client.api.import_image_from_file(str(tarball), repository=NAME, tag=key)
    return tag


def _debootstrap(tarball: Path) -> None:
    if not shutil.which("debootstrap") or os.geteuid() != 0:
        raise RuntimeError("The base image needs debootstrap and root: apt-get install debootstrap, and run as root.")
    with tempfile.TemporaryDirectory(prefix="millrace-base-") as scratch:
        root = Path(scratch) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEBOOTSTRAP_SECONDS)
        if done.returncode:
            raise RuntimeError(f"debootstrap failed:\n{done.stdout.decode(errors='replace')[-4000:]}")
        _finish(root)
        partial = tarball.with_suffix(".partial")
        subprocess.run(["tar", "--numeric-owner", "-C", str(root), "-cf", str(partial), "."], check=True)
        partial.rename(tarball)


def _finish(root: Path) -> None:
    for leftover in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")):
        leftover.unlink()
    # Cog's images start it from /sbin, which is /usr/sbin here.
    (root / "usr/sbin/tini").symlink_to("../bin/tini")
    shutil.copyfile(HOST_CERTIFICATES, root / HOST_CERTIFICATES.relative_to("/"))
    (root / "etc/pip.conf").write_text(_pip_configuration())


def _pip_configuration() -> str:
    """The certificates, and the index where this machine names one; local folders do not exist in the image."""
    lines = ["[global]", f"cert = {HOST_CERTIFICATES}", "disable-pip-version-check = true"]
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        value = value.strip("'\"")
        if name.endswith(".index-url") and value.startswith("http"):
            lines.append(f"index-url = {value}")
    return "\n".join(lines) + "\n"


@contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
