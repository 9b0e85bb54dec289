"""cog.yaml: what is read from it, and how a mistake in it is named."""

from pathlib import Path

import pytest

from core.bundles import BundleError
from core.cog_config import DEFAULT_SDK_VERSION, CogConfig, read_config


def config_of(folder: Path, text: str) -> CogConfig:
    (folder / "cog.yaml").write_text(text)
    (folder / "run.py").touch()
    return read_config(folder)


def test_the_least_that_works_is_one_reference(tmp_path: Path) -> None:
    assert config_of(tmp_path, "run: run.py:Runner") == CogConfig(reference="run.py:Runner")
    assert config_of(tmp_path, "predict: run.py:Runner").sdk_version == DEFAULT_SDK_VERSION


def test_everything_that_millrace_acts_on_is_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "# ours\n\ntorch==2.13.0  # pinned\n--extra-index-url https://example.com/#x\nnumpy>=2,\\\n  <3\n"
    )
    config = config_of(
        tmp_path,
        """
        build:
          python_version: 3.10
          sdk_version: 0.16.12
          gpu: true
          python_requirements: requirements.txt
          system_packages: [ffmpeg, git]
        run: run.py:Runner
        train: run.py:train
        concurrency:
          max: 4
        environment: ["HF_HOME=/tmp/hf", "EMPTY="]
        """,
    )
    assert config == CogConfig(
        reference="run.py:Runner",
        train_reference="run.py:train",
        python_version="3.10",
        sdk_version="0.16.12",
        requirements=("torch==2.13.0", "--extra-index-url https://example.com/#x", "numpy>=2, <3"),
        system_packages=("ffmpeg", "git"),
        gpu=True,
        concurrency=4,
        environment={"HF_HOME": "/tmp/hf", "EMPTY": ""},
    )


def test_the_deprecated_list_of_packages_works(tmp_path: Path) -> None:
    config = config_of(tmp_path, "build: {python_packages: ['pillow==13.0.0']}\nrun: run.py:Runner")
    assert config.requirements == ("pillow==13.0.0",)


RUN = "run: run.py:Runner\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must hold a mapping"),
        ("- a\n- b", "must hold a mapping"),
        ("run: [", "is not valid YAML"),
        ("build: {gpu: true}", "names nothing to run"),
        (RUN + "predict: run.py:Runner", "names both `run` and `predict`"),
        ("run: run.py", "must be a file and a class"),
        ("run: nosuch.py:Runner", "there is no file nosuch.py beside it"),
        ("run: 7", "run must be a string"),
        (RUN + "build: yes please", "build must be a mapping"),
        (RUN + "build: {gpu: 1}", "build.gpu must be true or false"),
        (RUN + "build: {system_packages: git}", "build.system_packages must be a list of strings"),
        (RUN + "build: {python_requirements: nosuch.txt}", "build.python_requirements names nosuch.txt"),
        (RUN + "build: {python_requirements: ../out.txt}", "lies outside the project"),
        (RUN + "build: {python_requirements: r.txt, python_packages: [x]}", "has both"),
        (RUN + "build: {python_packages: ['-r other.txt']}", "'-r other.txt' refers to other files"),
        (RUN + "build: {python_packages: ['./local']}", "'./local' refers to other files"),
        (RUN + "concurrency: {max: 0}", "concurrency.max must be a whole number of at least 1"),
        (RUN + "concurrency: {max: true}", "concurrency.max must be a whole number"),
        (RUN + "environment: [NOVALUE]", "environment holds 'NOVALUE'"),
    ],
)
def test_a_mistake_is_named_by_file_and_field(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(BundleError) as caught:
        config_of(tmp_path, text)
    assert sentence in str(caught.value)
    assert "cog.yaml" in str(caught.value)


def test_a_folder_without_cog_yaml_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cog.yaml does not exist"):
        read_config(tmp_path)
