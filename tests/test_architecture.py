"""The rules that keep the map true, read from the source itself: who imports whom, and what is written in one place."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from core import catalog, fleet, lifecycle, predictions, unstarted, webhooks

ROOT = Path(__file__).parents[1]
PROCESSES = ("api", "worker", "scheduler", "cli")
PACKAGES = ("core", *PROCESSES, "migrations")
MAX_LINES = 400

#: A script that runs inside the model's own environment, with nothing but the standard library and `cog`.
INSPECTOR = "worker/schema_inspector.py"

MAY_IMPORT = {
    "core": {"core"},
    "api": {"api", "core"},
    "worker": {"worker", "core"},
    "scheduler": {"scheduler", "core"},
    # `millrace up` brings the database to the newest revision before it starts anything.
    "cli": {"cli", "core", "migrations"},
    "migrations": {"migrations", "core"},
}
#: A library, and the only places that may know it.
FENCES = {
    "fastapi": ("api/",),
    "starlette": ("api/",),
    "docker": tuple(f"worker/runtimes/docker{part}.py" for part in ("", "_images", "_options", "_weights")),
    "pynvml": ("worker/gpus.py",),
    "rq": ("core/jobs.py", "worker/main.py"),
    "torch": ("cog_models/", "bench/gpu/models/"),
    "alembic": ("migrations/",),
    "typer": ("cli/",),
    "jsonschema_rs": ("core/inputs.py", "core/input_problems.py"),
    "argon2": ("core/people/passwords.py",),
    "jinja2": ("api/web/pages.py",),
    "babel": ("core/invoices/localized.py",),
    "fpdf": ("worker/invoices/",),
    "obstore": ("core/files.py",),
    "cryptography": ("core/joining/certificates.py",),
    "standardwebhooks": ("worker/deliveries.py",),
    "stripe": ("core/payments/stripe_payments.py",),
}
#: An attribute that is named in one file only.
IN_ONE_FILE = {
    "os.environ": "core/settings.py",
    "os.getenv": "core/settings.py",
    "datetime.now": "core/clock.py",
    "datetime.utcnow": "core/clock.py",
    "datetime.today": "core/clock.py",
    "date.today": "core/clock.py",
}
COMMITS = "core/database.py"


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports, wherever in the file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name_of(path)}:{node.lineno} imports relatively: write the whole name."
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("package", PACKAGES)
def test_processes_import_core_and_never_each_other(package: str) -> None:
    wrong = [
        f"{name_of(path)}:{line} imports {name}"
        for path in sources(package)
        for line, name in imported(path)
        if name.split(".")[0] in {*PACKAGES, "tests", "bench"} - MAY_IMPORT[package]
    ]
    assert not wrong


@pytest.mark.parametrize("library", FENCES)
def test_a_fenced_library_is_known_in_its_place_only(library: str) -> None:
    wrong = [
        f"{name_of(path)}:{line}"
        for path in sources(*PACKAGES, "cog_models")
        for line, name in imported(path)
        if name.split(".")[0] == library and not name_of(path).startswith(FENCES[library])
    ]
    assert not wrong


def test_every_fenced_library_is_really_used_where_its_fence_says() -> None:
    used = {
        (place, name.split(".")[0])
        for places in FENCES.values()
        for place in places
        for path in ([ROOT / place] if place.endswith(".py") else sources(place))
        for _, name in imported(path)
    }
    assert not [library for library, places in FENCES.items() if not any((place, library) in used for place in places)]


def test_environment_and_wall_clock_are_read_in_one_file_each() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno} names {ast.unparse(node)}"
        for path in sources(*PACKAGES)
        if name_of(path) != INSPECTOR
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and name_of(path) != IN_ONE_FILE.get(".".join(ast.unparse(node).split(".")[-2:]), name_of(path))
    ]
    assert not wrong


def test_only_the_database_module_commits() -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path in sources(*PACKAGES)
        if name_of(path) != COMMITS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
    ]
    assert not wrong


def test_no_import_hides_in_a_function() -> None:
    wrong = [
        f"{name_of(path)}:{inner.lineno}"
        for path in sources(*PACKAGES)
        if name_of(path) != INSPECTOR
        for function in ast.walk(tree(path))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(function)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert not wrong


def test_imports_run_in_no_circle() -> None:
    modules = {module_of(path): path for path in sources(*PACKAGES)}
    edges = {
        module: {found for _, name in imported(path) if (found := nearest(name, modules)) not in (None, module)}
        for module, path in modules.items()
    }
    while leaves := {module for module, others in edges.items() if not others & edges.keys()}:
        edges = {module: others for module, others in edges.items() if module not in leaves}
    assert not edges, f"these modules import each other, or something that does: {sorted(edges)}"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def nearest(name: str, modules: dict[str, Path]) -> str | None:
    """The module of ours that an imported name is, or lives in."""
    return name if name in modules else name.rpartition(".")[0] if name.rpartition(".")[0] in modules else None


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    files = [ROOT / line for line in listed.stdout.split()] or sources(*PACKAGES, "tests", "cog_models", "bench")
    long = {name_of(path): count for path in files if path.exists() and (count := lines_of(path)) > MAX_LINES}
    assert not long


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_every_module_says_what_it_knows() -> None:
    silent = [
        name_of(path)
        for path in sources(*PACKAGES)
        if path.name not in ("__init__.py", "__main__.py")
        and "tables/" not in name_of(path)
        and not ast.get_docstring(tree(path))
    ]
    assert not silent


def test_core_can_be_imported_without_any_process_and_its_libraries() -> None:
    """An api container has no docker and no GPU; a node has no fastapi."""
    probe = "import sys, core.resources, core.predictions; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    answer = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {*PROCESSES, "migrations", "fastapi", "docker", "pynvml", "torch", "rq"} & set(answer.stdout.split())


# --- docs/states.md ---------------------------------------------------------------------------------------------------

TABLES = {
    "Prediction": (lifecycle.PREDICTION_EDGES, (predictions, unstarted)),
    "Instance": (lifecycle.INSTANCE_EDGES, (fleet,)),
    "Version": (lifecycle.VERSION_EDGES, (catalog,)),
    "Delivery": (lifecycle.DELIVERY_EDGES, (webhooks,)),
}


@pytest.mark.parametrize("noun", TABLES)
def test_the_drawing_and_the_table_of_states_agree(noun: str) -> None:
    edges, _ = TABLES[noun]
    page = (ROOT / "docs/states.md").read_text()
    section = page.split(f"\n## {noun}\n", 1)[1].split("\n## ", 1)[0]
    drawn = re.findall(r"^ +(\w+) --> (\w+): (.+)$", section, re.MULTILINE)
    assert {(old, new): verbs for old, new, verbs in drawn} == {
        (old.value, new.value): verbs for (old, new), verbs in edges.items()
    }


@pytest.mark.parametrize("noun", TABLES)
def test_every_verb_that_an_edge_names_is_there(noun: str) -> None:
    edges, modules = TABLES[noun]
    named = {verb for verbs in edges.values() for verb in verbs.split(", ")}
    assert not [verb for verb in named if not any(callable(getattr(module, verb, None)) for module in modules)]


def test_every_state_is_reached_and_every_live_one_left() -> None:
    for edges, live in (
        (lifecycle.PREDICTION_EDGES, lifecycle.LIVE_PREDICTION),
        (lifecycle.INSTANCE_EDGES, lifecycle.LIVE_INSTANCE),
    ):
        states = set(type(live[0]))
        assert {new for _, new in edges} | {live[0]} == states
        assert {old for old, _ in edges} == set(live)


def test_every_package_named_here_is_there() -> None:
    assert all(importlib.util.find_spec(package) for package in PACKAGES)
