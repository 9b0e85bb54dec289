"""The GPUs of this machine, as NVML names them. The only file that imports pynvml; without a driver there are none."""

from dataclasses import asdict, dataclass
from typing import Any

import pynvml


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device; `healthy` is False, with a reason, when NVML cannot read it."""

    uuid: str
    name: str
    memory_bytes: int
    healthy: bool = True
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_gpus() -> list[Gpu]:
    """Every GPU the driver shows, in its order. Empty where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_read(index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _read(index: int) -> Gpu:
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(index)
        return Gpu(
            uuid=_text(pynvml.nvmlDeviceGetUUID(device)),
            name=_text(pynvml.nvmlDeviceGetName(device)),
            memory_bytes=pynvml.nvmlDeviceGetMemoryInfo(device).total,
        )
    except pynvml.NVMLError as error:
        return Gpu(f"gpu-{index}", "unknown", 0, healthy=False, reason=f"NVML cannot read GPU {index}: {error}")


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
