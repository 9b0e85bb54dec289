"""NVML's names become Replicate's SKUs and prices."""

import pytest

from core.hardware import UNLISTED_GPU_NANOS_PER_SECOND, gpu_hardware, machine_hardware


@pytest.mark.parametrize(
    ("model", "sku", "price"),
    [
        ("Tesla T4", "gpu-t4", 225_000),
        ("NVIDIA L40S", "gpu-l40s", 975_000),
        ("NVIDIA A100-SXM4-80GB", "gpu-a100-large", 1_400_000),
        ("NVIDIA A100 80GB PCIe", "gpu-a100-large", 1_400_000),
        ("NVIDIA H100 80GB HBM3", "gpu-h100", 1_525_000),
        ("NVIDIA H200", "gpu-h200", 1_525_000),
    ],
)
def test_a_listed_gpu_has_its_list_price(model: str, sku: str, price: int) -> None:
    kind = gpu_hardware(model)
    assert (kind.sku, kind.price_nanos_per_second, kind.gpu_model) == (sku, price, model)


@pytest.mark.parametrize(
    ("model", "sku"),
    [("NVIDIA GeForce RTX 4090", "gpu-geforce-rtx-4090"), ("NVIDIA A100-SXM4-40GB", "gpu-a100-sxm4-40gb")],
)
def test_a_gpu_that_is_not_listed_has_a_sku_of_its_own_and_the_default_price(model: str, sku: str) -> None:
    kind = gpu_hardware(model)
    assert (kind.sku, kind.price_nanos_per_second) == (sku, UNLISTED_GPU_NANOS_PER_SECOND)


def test_a_slice_costs_its_share_and_is_a_hardware_of_its_own() -> None:
    model = "NVIDIA A100-SXM4-80GB MIG 2g.20gb"
    kind = gpu_hardware(model)
    assert (kind.sku, kind.gpu_model) == ("gpu-a100-large-mig-2g-20gb", model)
    assert kind.price_nanos_per_second == 1_400_000 * 2 // 7


def test_a_machine_is_as_many_gpus_as_it_has_and_slices_do_not_add_up() -> None:
    models = ["NVIDIA H100 80GB HBM3"] * 5 + ["NVIDIA A100-SXM4-80GB MIG 3g.40gb"] * 2
    kinds = {kind.sku: (kind.gpu_count, kind.price_nanos_per_second) for kind in machine_hardware(models)}
    assert kinds == {
        "gpu-a100-large-mig-3g-40gb": (1, 600_000),
        "gpu-h100": (1, 1_525_000),
        "gpu-h100-2x": (2, 3_050_000),
        "gpu-h100-4x": (4, 6_100_000),
    }
