"""A bundle: a Cog project directory as one content-addressed artifact.

Knows which files belong to it, its digest, how it is packed, and how it is unpacked without trusting it. Bundles hold
plain files only: no links, no devices. Runs nothing and reaches no network; `core/cog_config.py` reads its cog.yaml.
"""

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core.dockerignore import Dockerignore

# Bounds on what a stranger's archive may unpack to: weights are large, but a bomb is larger.
MAX_FILES = 100_000
MAX_BYTES = 64 * 1024**3


class BundleError(ValueError):
    """A project or an archive cannot be a bundle; the message says which file, and what to do."""


@dataclass(frozen=True, slots=True)
class BundleFile:
    relative: str
    path: Path
    executable: bool


def files(folder: Path) -> Iterator[BundleFile]:
    """The files of the bundle, sorted by path. Links to files inside the project are followed."""
    root = folder.resolve()
    if not root.is_dir():
        raise BundleError(f"{folder} is not a folder; give the folder that holds cog.yaml.")
    ignored = Dockerignore(root)
    found: list[BundleFile] = []
    for current, folders, names in os.walk(root):
        here = Path(current)
        for name in sorted(folders):
            relative = (here / name).relative_to(root).as_posix()
            if ignored.covers_all_below(relative):
                folders.remove(name)
            elif (here / name).is_symlink() and not ignored.covers(relative):
                raise BundleError(f"{relative} in {folder} is a link to a folder; put a real folder there.")
        for name in names:
            relative = (here / name).relative_to(root).as_posix()
            if not ignored.covers(relative):
                found.append(_bundle_file(root, here / name, relative))
    return iter(sorted(found, key=lambda file: file.relative))


def _bundle_file(root: Path, path: Path, relative: str) -> BundleFile:
    target = path.resolve()
    if not target.is_relative_to(root):
        raise BundleError(f"{relative} in {root} is a link to {target}, outside the project; copy the file in.")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        raise BundleError(f"{relative} in {root} is a link to nothing; remove it.") from None
    if not stat.S_ISREG(mode):
        raise BundleError(
            f"{relative} in {root} is neither a file nor a folder; remove it, or list it in .dockerignore."
        )
    return BundleFile(relative, target, bool(mode & stat.S_IXUSR))


def digest(folder: Path) -> str:
    """sha256 over sorted paths, executable bits and contents: 64 hex digits, the same on every machine."""
    total = hashlib.sha256()
    for file in files(folder):
        with file.path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative}\0{int(file.executable)}\0{content}\n".encode())
    return total.hexdigest()


def pack(folder: Path, archive: Path) -> None:
    """Write the bundle as tar.gz; the same folder gives the same bytes."""
    with (
        archive.open("wb") as raw,
        # Level 1: weights hardly compress, and higher levels cost minutes per gigabyte.
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in files(folder):
            entry = tarfile.TarInfo(file.relative)
            entry.size = file.path.stat().st_size
            entry.mode = 0o755 if file.executable else 0o644
            with file.path.open("rb") as stream:
                tar.addfile(entry, stream)


def unpack(archive: Path, destination: Path) -> None:
    """Unpack into `destination`, which must not exist. Refuses links, devices, absolute paths and `..`."""
    destination.mkdir(parents=True)
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            for entry in _checked(tar):
                _write(tar, entry, destination / entry.name)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, BundleError) as error:
        shutil.rmtree(destination)
        if isinstance(error, BundleError):
            raise
        raise BundleError(
            f"{archive.name} is not a readable tar.gz archive ({error}); pack the project again."
        ) from error


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    """Not `extract`: whatever the archive says, files belong to us and are not setuid, and Debian 12's Python 3.11.2
    does not know its `filter` yet."""
    if entry.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(entry) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    path.chmod(0o755 if entry.mode & 0o100 else 0o644)


def _checked(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    total = 0
    for count, entry in enumerate(tar, start=1):
        path = PurePosixPath(entry.name)
        if path.is_absolute() or ".." in path.parts:
            raise BundleError(f"The archive holds {entry.name!r}, which lies outside the project; it was not unpacked.")
        if not (entry.isreg() or entry.isdir()):
            raise BundleError(f"The archive holds {entry.name!r}, which is not a plain file; it was not unpacked.")
        total += entry.size
        if count > MAX_FILES or total > MAX_BYTES:
            raise BundleError(f"The archive holds over {MAX_FILES} files or {MAX_BYTES} bytes; it was not unpacked.")
        yield entry
