"""The Cog projects of one run: copies of `models/busy` that hold so much memory that only one fits at a time."""

import shutil
import subprocess
from pathlib import Path

_BUSY = Path(__file__).parent / "models" / "busy"
_STAND_IN = Path(__file__).parent / "models" / "stand_in"
#: Of a GPU's memory: two of them are more than it has.
_SHARE = 0.6
_CPU_BYTES = 64 * 1024 * 1024


def write(folder: Path, count: int, torch_from: Path | None) -> list[str]:
    """Names of the models. `torch_from`: a folder that torch is imported from, where none is to be installed."""
    names = [f"busy-{number}" for number in range(count)]
    for name in names:
        project = folder / name
        shutil.copytree(_BUSY, project, ignore=shutil.ignore_patterns("__pycache__"))
        (project / "hold.txt").write_text(str(_bytes_to_hold()))
        # A folder of its own is a Version of its own.
        (project / "name.txt").write_text(name)
        if torch_from is not None:
            (project / "torch.txt").write_text(str(torch_from))
            (project / "requirements.txt").write_text("")
    return names


def write_stand_in(folder: Path) -> str:
    """Name of a model that needs no device."""
    shutil.copytree(_STAND_IN, folder / "stand-in", ignore=shutil.ignore_patterns("__pycache__"))
    return "stand-in"


def gpu_memory() -> list[tuple[int, int]]:
    """(used, total) bytes of each GPU; none without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [tuple(int(number) << 20 for number in line.split(",")) for line in lines]  # type: ignore[misc]


def _bytes_to_hold() -> int:
    memory = gpu_memory()
    return int(min(total for _, total in memory) * _SHARE) if memory else _CPU_BYTES
