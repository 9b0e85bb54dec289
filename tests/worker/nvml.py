"""An NVML library that says what a test wants: no machine of the tests has a GPU, let alone a broken one."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 1024**3


@dataclass
class Device:
    """What is None, NVML cannot tell. `breaks` is raised by every question about it."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    memory: int = 80 * GIB
    used: int = 0
    celsius: int | None = 40
    throttle_reasons: int = 0
    uncorrected: int | None = 0
    processes: dict[int, int | None] = field(default_factory=dict)
    slices: "list[Device | None] | None" = None
    breaks: Exception | None = None


class Nvml:
    """Has the functions of pynvml that are asked for, and its constants."""

    def __init__(self, *devices: Device, init: Exception | None = None) -> None:
        self._devices = devices
        self._init = init
        self.is_open = False

    def __getattr__(self, name: str) -> Any:
        assert name.startswith("NVML_"), f"{name} is not part of this NVML"
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:
        if self._init is not None:
            raise self._init
        self.is_open = True

    def nvmlShutdown(self) -> None:
        self.is_open = False

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.12"

    def nvmlDeviceGetCount(self) -> int:
        return len(self._devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Device:
        return _working(self._devices[index])

    def nvmlDeviceGetUUID(self, device: Device) -> str:
        return device.uuid

    def nvmlDeviceGetName(self, device: Device) -> str:
        return device.name

    def nvmlDeviceGetMemoryInfo(self, device: Device) -> Any:
        return SimpleNamespace(total=device.memory, used=device.used)

    def nvmlDeviceGetTemperature(self, device: Device, sensor: int) -> int:
        return _told(device.celsius)

    def nvmlDeviceGetTemperatureThreshold(self, device: Device, kind: int) -> int:
        return 90

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: Device) -> int:
        return device.throttle_reasons

    def nvmlDeviceGetTotalEccErrors(self, device: Device, kind: int, counter: int) -> int:
        return _told(device.uncorrected)

    def nvmlDeviceGetMigMode(self, device: Device) -> list[int]:
        return [int(device.slices is not None)] * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, device: Device) -> int:
        return len(device.slices or ())

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: Device, index: int) -> Device:
        slice = (device.slices or ())[index]
        if slice is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return slice

    def nvmlDeviceGetComputeRunningProcesses(self, device: Device) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in device.processes.items()]


def _working(device: Device) -> Device:
    if device.breaks is not None:
        raise device.breaks
    return device


def _told(value: int | None) -> int:
    if value is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value
