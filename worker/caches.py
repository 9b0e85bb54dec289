"""Where models keep what takes long to get or to compile, from one Instance to the next, in every runtime.

The models of one owner share a folder, whoever calls them, and those of two owners never do. What is in there is run:
weights are pickles, and what was compiled are libraries. A model that can write what another one loads can do all that
the other can, and see the inputs of those who call it. One owner's models may trust each other as they trust their
author. What was compiled is besides for one kind of GPU under one driver.

Only what libraries keep is shared, not their home folder: a token that a model logs in with stays in its container.
"""

import re
import shutil
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.gpus import list_gpus

#: Of an owner none of whose models has been started for as long, they go.
_KEPT_SECONDS = 14 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Cache:
    """`folder` of an owner's that libraries are told of by `variables`; else they look at `place` below their home, or
    where `others` say."""

    folder: str
    variables: tuple[str, ...]
    place: str = ""
    others: tuple[str, ...] = ()


FETCHED = (
    Cache(
        "huggingface",
        # Older ones know it by its second name.
        ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
        ".cache/huggingface",
        ("HF_HOME", "TRANSFORMERS_CACHE", "XDG_CACHE_HOME"),
    ),
    Cache("torch", ("TORCH_HOME",), ".cache/torch", ("XDG_CACHE_HOME",)),
)
_COMPILED = (
    Cache("inductor", ("TORCHINDUCTOR_CACHE_DIR",)),
    Cache("triton", ("TRITON_CACHE_DIR",)),
    Cache("cuda", ("CUDA_CACHE_PATH",)),
)


def variables(
    root: str, kind: str, *, environment: Collection[str] = (), brings: Collection[str] = ()
) -> dict[str, str]:
    """By which libraries find the caches of an owner below `root`, but for those that the model's `environment` places,
    and the folders that it `brings`, filled."""
    below = [(cache, f"{root}/{cache.folder}") for cache in FETCHED if cache.folder not in brings]
    below += [(cache, f"{root}/{kind}/{cache.folder}") for cache in _COMPILED]
    return {
        variable: path
        for cache, path in below
        if not {*cache.variables, *cache.others} & set(environment)
        for variable in cache.variables
    }


def kind_of(gpu_uuids: Sequence[str]) -> str:
    """Of the GPUs, and the driver they are under, as the name of a folder. Blocks."""
    names = {f"{gpu.name} {gpu.driver}" for gpu in list_gpus() if gpu.uuid in gpu_uuids} if gpu_uuids else {"cpu"}
    return re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(sorted(names))) or "unknown"


def use(root: Path, owner: str) -> Path:
    """The folder of an owner, which is in use from now on. Blocks."""
    own = root / owner
    own.mkdir(parents=True, exist_ok=True)
    own.touch()
    return own


def unused(root: Path) -> list[Path]:
    """Folders of owners that have not been in use for long. Blocks."""
    known = list(root.iterdir()) if root.exists() else []
    return [own for own in known if time.time() - own.stat().st_mtime > _KEPT_SECONDS]


def prepare(root: Path, owner: str, gpu_uuids: Sequence[str], environment: Collection[str] = ()) -> dict[str, str]:
    """Makes the folders of an owner on this machine, and returns the variables. Blocks."""
    for old in unused(root):
        shutil.rmtree(old, ignore_errors=True)
    own, kind = use(root, owner), kind_of(gpu_uuids)
    (own / kind).mkdir(exist_ok=True)
    return variables(str(own), kind, environment=environment)
