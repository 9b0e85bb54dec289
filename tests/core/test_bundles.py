"""Bundles: which files, which digest, and no trust in an archive."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from core import bundles
from core.bundles import BundleError, digest, files, pack, unpack


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "weights").mkdir(parents=True)
    (folder / "cog.yaml").write_text('predict: "predict.py:Predictor"\n')
    (folder / "predict.py").write_text("print('hello')\n")
    (folder / "weights" / "w.bin").write_bytes(b"\0" * 1000)
    return folder


def names(folder: Path) -> list[str]:
    return [file.relative for file in files(folder)]


def test_a_project_packed_and_unpacked_keeps_its_digest(project: Path, tmp_path: Path) -> None:
    (project / "run.sh").write_text("#!/bin/sh\n")
    (project / "run.sh").chmod(0o755)
    pack(project, tmp_path / "bundle.tar.gz")
    unpack(tmp_path / "bundle.tar.gz", tmp_path / "unpacked")
    assert digest(tmp_path / "unpacked") == digest(project)
    assert os.access(tmp_path / "unpacked" / "run.sh", os.X_OK)


def test_packing_twice_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    pack(project, tmp_path / "first")
    os.utime(project / "predict.py", (0, 0))
    pack(project, tmp_path / "second")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: (folder / "predict.py").write_text("print('bye')\n"), id="content"),
        pytest.param(lambda folder: (folder / "predict.py").chmod(0o755), id="executable bit"),
        pytest.param(lambda folder: (folder / "predict.py").rename(folder / "other.py"), id="name"),
        pytest.param(lambda folder: (folder / "new.py").touch(), id="new file"),
    ],
)
def test_every_change_changes_the_digest(project: Path, change: Callable[[Path], object]) -> None:
    before = digest(project)
    change(project)
    assert digest(project) != before


def test_what_machines_write_beside_a_model_is_no_part_of_it(project: Path) -> None:
    before = digest(project)
    for name in (".git/config", "__pycache__/predict.pyc", ".cog/openapi_schema.json", ".venv/bin/python", "old.pyc"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    assert digest(project) == before


def test_dockerignore_keeps_secrets_and_data_at_home(project: Path) -> None:
    (project / ".dockerignore").write_text("# ours\n.env\ndata/*\n!data/keep.txt\n**/*.ckpt\n")
    (project / "data").mkdir()
    for name in (".env", "data/big.csv", "data/keep.txt", "weights/old.ckpt"):
        (project / name).write_text("x")
    assert names(project) == [".dockerignore", "cog.yaml", "data/keep.txt", "predict.py", "weights/w.bin"]


def test_an_exception_below_an_ignored_folder_is_kept_as_docker_keeps_it(project: Path) -> None:
    (project / ".dockerignore").write_text("weights\n!weights/w.bin\n")
    (project / "weights" / "other.bin").touch()
    assert names(project) == [".dockerignore", "cog.yaml", "predict.py", "weights/w.bin"]


def test_a_link_within_the_project_becomes_the_file_it_names(project: Path, tmp_path: Path) -> None:
    (project / "link.bin").symlink_to("weights/w.bin")
    pack(project, tmp_path / "bundle")
    unpack(tmp_path / "bundle", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked" / "link.bin").is_symlink()
    assert digest(tmp_path / "unpacked") == digest(project)


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside", "nowhere"])
def test_a_link_that_leads_outside_or_nowhere_is_refused_by_name(project: Path, target: str) -> None:
    (project.parent / "outside").write_text("x")
    (project / "link").symlink_to(target)
    with pytest.raises(BundleError, match=r"^link in .* is a link to "):
        digest(project)


def test_a_pipe_is_refused_instead_of_waited_for(project: Path) -> None:
    os.mkfifo(project / "pipe")
    with pytest.raises(BundleError, match="pipe in .* neither a file nor a folder"):
        digest(project)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="nosuch is not a folder"):
        digest(tmp_path / "nosuch")


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o6777
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


def write_archive(path: Path, *entries: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info in entries:
            tar.addfile(info, io.BytesIO(b"x"))
    return path


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([entry("../outside")], id="parent"),
        pytest.param([entry("/tmp/absolute")], id="absolute"),
        pytest.param([entry("a/../../outside")], id="hidden parent"),
        pytest.param([entry("link", tarfile.SYMTYPE, "/etc"), entry("link/passwd")], id="symbolic link"),
        pytest.param([entry("link", tarfile.LNKTYPE, "/etc/passwd")], id="hard link"),
        pytest.param([entry("device", tarfile.CHRTYPE)], id="device"),
    ],
)
def test_an_archive_that_reaches_outside_leaves_nothing_behind(tmp_path: Path, entries: list[tarfile.TarInfo]) -> None:
    archive = write_archive(tmp_path / "evil.tar.gz", entry("good"), *entries)
    with pytest.raises(BundleError, match="it was not unpacked"):
        unpack(archive, tmp_path / "unpacked")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.tar.gz"]


def test_unpacked_files_are_not_setuid(tmp_path: Path) -> None:
    unpack(write_archive(tmp_path / "archive", entry("file")), tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "file").stat().st_mode & 0o7000 == 0


@pytest.mark.parametrize("content", [b"", b"not gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\0broken"])
def test_a_broken_archive_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.tar.gz").write_bytes(content)
    with pytest.raises(BundleError, match="broken.tar.gz is not a readable"):
        unpack(tmp_path / "broken.tar.gz", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_a_truncated_archive_is_refused(project: Path, tmp_path: Path) -> None:
    (project / "weights" / "w.bin").write_bytes(os.urandom(100_000))
    pack(project, tmp_path / "whole")
    (tmp_path / "half").write_bytes((tmp_path / "whole").read_bytes()[:50_000])
    with pytest.raises(BundleError, match="half is not a readable"):
        unpack(tmp_path / "half", tmp_path / "unpacked")


def test_an_archive_may_not_grow_without_bound(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(project, tmp_path / "bundle")
    monkeypatch.setattr(bundles, "MAX_BYTES", 100)
    with pytest.raises(BundleError, match="over .* 100 bytes"):
        unpack(tmp_path / "bundle", tmp_path / "unpacked")
