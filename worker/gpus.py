"""The GPUs of this machine, as NVML tells of them. The only file that imports pynvml; without a driver there are none.

Knows no Instances: whose a process is, others say.
"""

from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import psutil
import pynvml

from core.log import get_logger

T = TypeVar("T")
log = get_logger()

#: Clocks lowered because of heat or power that is not there. Idling and limits that somebody has set are none of these.
_THROTTLED = (
    pynvml.nvmlClocksThrottleReasonHwSlowdown
    | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    | pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    | pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
)
#: Not every device, driver and slice can tell everything.
_UNTOLD = (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NotFound, pynvml.NVMLError_NoPermission)
_NO_DRIVER = (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded)


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One that computes there. `memory_bytes` None: the driver does not say."""

    pid: int
    name: str
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device, or one slice of `parent`; `healthy` is False, with a reason, where nothing new should run."""

    uuid: str
    name: str
    memory_bytes: int
    healthy: bool = True
    reason: str | None = None
    used_bytes: int | None = None
    temperature: int | None = None
    throttled: bool = False
    driver: str | None = None
    parent: str | None = None
    processes: tuple[GpuProcess, ...] = field(default=())

    def as_dict(self, ours: Collection[int] = ()) -> dict[str, Any]:
        """With the processes that are not among `ours` as `foreign`."""
        fields = asdict(self)
        fields["foreign"] = [process for process in fields.pop("processes") if process["pid"] not in ours]
        return fields


def list_gpus(nvml: Any = pynvml) -> list[Gpu]:
    """Every device the driver shows, in its order, each that is cut in slices as those. Empty where no driver is."""
    try:
        nvml.nvmlInit()
    except _NO_DRIVER:
        return []
    except pynvml.NVMLError as error:
        log.warning("NVML does not start, so that this machine has no GPUs", error=str(error))
        return []
    try:
        driver = _ask(lambda: _text(nvml.nvmlSystemGetDriverVersion()))
        return [
            replace(gpu, driver=driver) for index in range(nvml.nvmlDeviceGetCount()) for gpu in _devices(nvml, index)
        ]
    finally:
        nvml.nvmlShutdown()


def _devices(nvml: Any, index: int) -> list[Gpu]:
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        whole = _read(nvml, device)
        if not _is_cut(nvml, device):
            return [whole]
        slices = [replace(_inside(nvml, slice), parent=whole.uuid) for slice in _slices(nvml, device)]
    except pynvml.NVMLError as error:
        return [Gpu(f"gpu-{index}", "unknown", 0, healthy=False, reason=f"NVML cannot read GPU {index}: {error}")]
    if not slices:
        said = "It is in MIG mode and has no slices; make some with nvidia-smi, or turn the mode off."
        return [replace(whole, healthy=False, reason=said)]
    shared = {name: getattr(whole, name) for name in ("healthy", "reason", "temperature", "throttled")}
    return [replace(slice, **shared) for slice in slices]


def _inside(nvml: Any, device: Any) -> Gpu:
    """What a device and a slice can both tell."""
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    return Gpu(
        uuid=_text(nvml.nvmlDeviceGetUUID(device)),
        name=_text(nvml.nvmlDeviceGetName(device)),
        memory_bytes=memory.total,
        used_bytes=memory.used,
        processes=_processes(nvml, device),
    )


def _read(nvml: Any, device: Any) -> Gpu:
    celsius = _ask(lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU))
    limit = _ask(lambda: nvml.nvmlDeviceGetTemperatureThreshold(device, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN))
    reasons = _ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)) or 0
    errors = _ask(
        lambda: nvml.nvmlDeviceGetTotalEccErrors(
            device, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        )
    )
    fault = _fault(errors, celsius, limit)
    return replace(
        _inside(nvml, device),
        healthy=fault is None,
        reason=fault,
        temperature=celsius,
        throttled=bool(reasons & _THROTTLED),
    )


def _fault(errors: int | None, celsius: int | None, limit: int | None) -> str | None:
    if errors:
        return f"It has had {errors} uncorrected memory errors since its driver was loaded; reset it, or replace it."
    if celsius is not None and limit and celsius >= limit:
        return f"It is at {celsius} °C, and slows itself down from {limit} °C on; see to its cooling."
    return None


def _is_cut(nvml: Any, device: Any) -> bool:
    mode = _ask(lambda: nvml.nvmlDeviceGetMigMode(device))
    return bool(mode and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE)


def _slices(nvml: Any, device: Any) -> list[Any]:
    """Numbers are given once and not moved up, so there are gaps."""
    numbers = range(nvml.nvmlDeviceGetMaxMigDeviceCount(device))
    found = (_ask(lambda n=n: nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, n)) for n in numbers)
    return [slice for slice in found if slice is not None]


def _processes(nvml: Any, device: Any) -> tuple[GpuProcess, ...]:
    running = _ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device)) or ()
    return tuple(GpuProcess(each.pid, _name(each.pid), each.usedGpuMemory) for each in running)


def _name(pid: int) -> str:
    """A process of another container is seen by NVML, and not from here."""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "unknown"


def _ask(question: Callable[[], T]) -> T | None:
    """None: it cannot tell."""
    try:
        return question()
    except _UNTOLD:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
