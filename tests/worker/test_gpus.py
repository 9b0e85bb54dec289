"""What a node says of its GPUs: an unhealthy one says why, a foreign process is named, a slice is a device."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from functools import partial
from pathlib import Path

import psutil
import pynvml
import pytest

from tests.support.bundles import process_runtime
from tests.worker.nvml import GIB, Device, Nvml
from worker.devices import Devices
from worker.gpus import Gpu, list_gpus

LOST = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)


def only(device: Device) -> Gpu:
    [gpu] = list_gpus(Nvml(device))
    return gpu


def test_a_healthy_gpu_tells_what_it_is_and_has() -> None:
    gpu = only(Device("GPU-1", used=3 * GIB, celsius=51))
    assert (gpu.uuid, gpu.memory_bytes, gpu.used_bytes, gpu.temperature) == ("GPU-1", 80 * GIB, 3 * GIB, 51)
    assert (gpu.healthy, gpu.reason, gpu.throttled, gpu.driver) == (True, None, False, "570.12")


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (Device("GPU-1", uncorrected=3), "3 uncorrected memory errors"),
        (Device("GPU-1", celsius=93), "at 93 °C, and slows itself down from 90 °C"),
        (
            Device("GPU-1", breaks=pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)),
            "NVML cannot read GPU 0: GPU is lost",
        ),
        (Device("GPU-1", slices=[None]), "MIG mode and has no slices"),
    ],
)
def test_an_unhealthy_gpu_says_why(device: Device, words: str) -> None:
    gpu = only(device)
    assert not gpu.healthy
    assert words in (gpu.reason or "")


def test_one_broken_gpu_hides_no_other() -> None:
    assert [gpu.healthy for gpu in list_gpus(Nvml(Device("GPU-1", breaks=LOST), Device("GPU-2")))] == [False, True]


def test_what_a_gpu_cannot_tell_is_no_fault() -> None:
    gpu = only(Device("GPU-1", uncorrected=None, celsius=None))
    assert (gpu.healthy, gpu.temperature) == (True, None)


def test_heat_throttles_and_idling_does_not() -> None:
    assert only(Device("GPU-1", throttle_reasons=pynvml.nvmlClocksThrottleReasonHwThermalSlowdown)).throttled
    assert not only(Device("GPU-1", throttle_reasons=pynvml.nvmlClocksThrottleReasonGpuIdle)).throttled


def test_slices_stand_for_the_gpu_that_was_cut_and_share_its_fault() -> None:
    name = "NVIDIA A100-SXM4-80GB MIG 1g.10gb"
    slices = [Device("MIG-1", name, 10 * GIB), None, Device("MIG-2", name, 10 * GIB, processes={7: GIB})]
    gpus = list_gpus(Nvml(Device("GPU-1", "NVIDIA A100-SXM4-80GB", slices=slices, uncorrected=1)))
    assert [(gpu.uuid, gpu.parent, gpu.memory_bytes) for gpu in gpus] == [
        ("MIG-1", "GPU-1", 10 * GIB),
        ("MIG-2", "GPU-1", 10 * GIB),
    ]
    assert all("uncorrected" in (gpu.reason or "") for gpu in gpus)
    assert [process.pid for process in gpus[1].processes] == [7]


def test_without_a_driver_there_are_no_gpus() -> None:
    assert list_gpus(Nvml(init=pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))) == []
    assert list_gpus(Nvml(init=pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))) == []


def test_nvml_is_let_go_of_again() -> None:
    nvml = Nvml(Device("GPU-1"))
    list_gpus(nvml)
    assert not nvml.is_open


async def test_a_foreign_process_is_named_and_ours_are_counted_as_peaks(tmp_path: Path) -> None:
    """Ours are those below the folder of an Instance, a child that hides its HOME among them."""
    runtime = process_runtime(tmp_path / "data")
    home = (tmp_path / "data/instances/i-1/tmp").absolute()
    reads = "import sys; sys.stdin.read()"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {reads!r}], env={{}}, stdin=0)"
    code += "; print(p.pid, flush=True); p.wait()"
    model = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), env={"HOME": str(home)}, stdin=PIPE, stdout=PIPE, start_new_session=True
    )
    try:
        child = int(await model.stdout.readline())
        first = Device("GPU-1", processes={model.pid: GIB, child: 2 * GIB, os.getpid(): 21 * GIB})
        second = Device("GPU-2", processes={child: GIB, model.pid: None})
        devices, used = await Devices([runtime], partial(list_gpus, Nvml(first, second))).look()
    finally:
        await model.communicate(b"")
    name = psutil.Process().name()
    assert devices[0]["foreign"] == [{"pid": os.getpid(), "name": name, "memory_bytes": 21 * GIB}]
    assert devices[1]["foreign"] == []
    assert used == {"i-1": 3 * GIB}
