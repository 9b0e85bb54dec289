"""What a Cog project's cog.yaml says, as far as Millrace acts on it.

Reads cog.yaml and the requirements file it names; neither imports the model nor installs anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from core.bundles import BundleError

# The newest Cog that the worker is tested with; cog.yaml's `build.sdk_version` overrides it.
DEFAULT_SDK_VERSION = "0.23.1"
# Lines that reach outside the requirements file: the environment is built without the project beside it.
UNSUPPORTED_REQUIREMENTS = ("-r", "--requirement", "-c", "--constraint", "-e", "--editable", ".", "/", "file:")


@dataclass(frozen=True, slots=True)
class CogConfig:
    """`reference` is what to run, as `predict.py:Predictor`."""

    reference: str
    train_reference: str | None = None
    python_version: str | None = None
    sdk_version: str = DEFAULT_SDK_VERSION
    requirements: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()
    gpu: bool = False
    concurrency: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """Leaves 3.10 the text it is: as a number it would name Python 3.1."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:float"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_config(folder: Path) -> CogConfig:
    """Parse `folder`/cog.yaml; every refusal names the file and the field."""
    path = folder / "cog.yaml"
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError:
        raise BundleError(f"{path} does not exist; a Cog project needs one.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    fields = _Fields(path, document)
    return CogConfig(
        reference=_reference(fields),
        train_reference=fields.text("train"),
        python_version=fields.text("build", "python_version"),
        sdk_version=fields.text("build", "sdk_version") or DEFAULT_SDK_VERSION,
        requirements=_requirements(fields, folder),
        system_packages=fields.texts("build", "system_packages"),
        gpu=fields.flag("build", "gpu"),
        concurrency=fields.count("concurrency", "max"),
        environment=_environment(fields),
    )


class _Fields:
    """Typed access to a YAML document."""

    def __init__(self, path: Path, document: Any) -> None:
        self.path = path
        if not isinstance(document, dict):
            raise BundleError(f"{path} must hold a mapping with `run` or `predict`.")
        self._document = document

    def get(self, *names: str) -> Any:
        value: Any = self._document
        for depth, name in enumerate(names):
            if value is None:
                return None
            if not isinstance(value, dict):
                raise self.error(names[:depth], "must be a mapping")
            value = value.get(name)
        return value

    def error(self, names: tuple[str, ...], problem: str) -> BundleError:
        return BundleError(f"{self.path}: {'.'.join(names)} {problem}.")

    def text(self, *names: str) -> str | None:
        value = self.get(*names)
        if value is not None and not isinstance(value, str):
            raise self.error(names, f"must be a string, but is {value!r}")
        return value.strip() if value else None

    def texts(self, *names: str) -> tuple[str, ...]:
        value = self.get(*names)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(names, "must be a list of strings")
        return tuple(item.strip() for item in value)

    def flag(self, *names: str) -> bool:
        value = self.get(*names)
        if value is not None and not isinstance(value, bool):
            raise self.error(names, "must be true or false")
        return bool(value)

    def count(self, *names: str) -> int | None:
        value = self.get(*names)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise self.error(names, "must be a whole number of at least 1")
        return value


def _reference(fields: _Fields) -> str:
    run, predict = fields.text("run"), fields.text("predict")
    if run and predict:
        raise BundleError(f"{fields.path} names both `run` and `predict`; keep `run`.")
    reference = run or predict
    if not reference:
        raise BundleError(f'{fields.path} names nothing to run; add `run: "run.py:Runner"`.')
    file, separator, name = reference.partition(":")
    if not separator or not file or not name:
        raise BundleError(f"{fields.path}: {reference!r} must be a file and a class, as in run.py:Runner.")
    if not (fields.path.parent / file).is_file():
        raise BundleError(f"{fields.path} names {reference!r}, but there is no file {file} beside it.")
    return reference


def _requirements(fields: _Fields, folder: Path) -> tuple[str, ...]:
    packages = fields.texts("build", "python_packages")
    name = fields.text("build", "python_requirements")
    if packages and name:
        raise fields.error(("build",), "has both python_packages and python_requirements; keep python_requirements")
    if not name:
        return tuple(_requirement_line(fields.path, line) for line in packages)
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise fields.error(("build", "python_requirements"), f"names {name}, which lies outside the project")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise fields.error(("build", "python_requirements"), f"names {name}, which cannot be read") from None
    lines = (_strip_comment(line) for line in text.replace("\\\n", " ").splitlines())
    return tuple(_requirement_line(path, line) for line in lines if line)


def _strip_comment(line: str) -> str:
    """pip's rule: `#` starts a comment at the start of a line or after white space."""
    return "" if line.lstrip().startswith("#") else line.split(" #")[0].split("\t#")[0].strip()


def _requirement_line(path: Path, line: str) -> str:
    if line.startswith(UNSUPPORTED_REQUIREMENTS):
        raise BundleError(
            f"{path}: the line {line!r} refers to other files, which Millrace does not install from; "
            "list the packages themselves."
        )
    return " ".join(line.split())


def _environment(fields: _Fields) -> dict[str, str]:
    pairs = {}
    for item in fields.texts("environment"):
        name, separator, value = item.partition("=")
        if not separator or not name.isidentifier():
            raise fields.error(("environment",), f"holds {item!r}, which is not NAME=value")
        pairs[name] = value
    return pairs
