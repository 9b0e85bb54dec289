"""Where models keep what takes long to get or to compile, from one Instance of a Version to the next.

A Version's own: its code can write there what it likes, so that no other account's model, nor another model of the same
account, may read it. What was compiled is for one kind of GPU under one driver.
"""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from worker.gpus import list_gpus

#: Of a Version that has not been started for as long, they go.
_KEPT_SECONDS = 14 * 24 * 3600.0


def prepare(root: Path, version_id: str, gpu_uuids: Sequence[str]) -> dict[str, str]:
    """Makes the folders of a Version, and returns the variables by which libraries find them. Blocks."""
    own = root / version_id
    compiled = own / _kind(gpu_uuids)
    compiled.mkdir(parents=True, exist_ok=True)
    own.touch()
    return {
        "HF_HOME": str(own / "huggingface"),
        "TORCH_HOME": str(own / "torch"),
        "TORCHINDUCTOR_CACHE_DIR": str(compiled / "inductor"),
        "TRITON_CACHE_DIR": str(compiled / "triton"),
        "CUDA_CACHE_PATH": str(compiled / "cuda"),
    }


def remove_old(root: Path) -> None:
    """Blocks."""
    for own in root.iterdir() if root.exists() else ():
        if time.time() - own.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(own, ignore_errors=True)


def _kind(gpu_uuids: Sequence[str]) -> str:
    names = {f"{gpu.name} {gpu.driver}" for gpu in list_gpus() if gpu.uuid in gpu_uuids} if gpu_uuids else {"cpu"}
    return re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(sorted(names))) or "unknown"
