"""Kinds of machines and what a second of them costs, as Replicate lists them. Pure.

An operator may change a price once it is in the database; this table only fills in what is not there yet.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

#: For a GPU that Replicate does not list: what it takes for an L40S, the middle of its list.
UNLISTED_GPU_NANOS_PER_SECOND = 975_000


@dataclass(frozen=True, slots=True)
class HardwareKind:
    """`gpu_model` is the GPU's name as NVML gives it, of each of its GPUs; None: no GPU."""

    sku: str
    name: str
    price_nanos_per_second: int
    gpu_model: str | None = None
    gpu_count: int = 0


CPU = HardwareKind("cpu", "CPU", 100_000)

# Words that NVML's name must have, all of them; then the SKU, its name and its price.
_LISTED = (
    ({"T4"}, "gpu-t4", "Nvidia T4 GPU", 225_000),
    ({"A40"}, "gpu-a40-large", "Nvidia A40 (Large) GPU", 725_000),
    ({"L40S"}, "gpu-l40s", "Nvidia L40S GPU", 975_000),
    ({"A100", "80GB"}, "gpu-a100-large", "Nvidia A100 (80GB) GPU", 1_400_000),
    ({"H100"}, "gpu-h100", "Nvidia H100 GPU", 1_525_000),
    ({"H200"}, "gpu-h200", "Nvidia H200 GPU", 1_525_000),
)


#: How many GPUs a Hardware may have, as Replicate lists them.
_MULTIPLES = (2, 4, 8)
#: Of a whole GPU, as many as a slice's name says, `1g.10gb`.
_SLICES = 7


def gpu_hardware(model: str) -> HardwareKind:
    """The Hardware of one GPU of that model: `NVIDIA A100-SXM4-80GB` is `gpu-a100-large`; of a slice, its share."""
    whole, _, profile = model.partition(" MIG ")
    kind = _one(whole)
    if not profile:
        return kind
    shares = re.match(r"(\d+)g\.", profile)
    price = kind.price_nanos_per_second * int(shares[1]) // _SLICES if shares else kind.price_nanos_per_second
    slug = re.sub(r"[^a-z0-9]+", "-", profile.lower()).strip("-")
    return HardwareKind(f"{kind.sku}-mig-{slug}", f"{kind.name} ({profile} slice)", price, model, 1)


def machine_hardware(models: Iterable[str]) -> list[HardwareKind]:
    """Each Hardware that a machine with GPUs of these models can be; slices do not work together."""
    kinds = []
    for model, count in sorted(Counter(models).items()):
        kind = gpu_hardware(model)
        kinds.append(kind)
        if " MIG " not in model:
            kinds += [_several(kind, number) for number in _MULTIPLES if number <= count]
    return kinds


def _several(kind: HardwareKind, count: int) -> HardwareKind:
    return replace(
        kind,
        sku=f"{kind.sku}-{count}x",
        name=f"{count}x {kind.name}",
        price_nanos_per_second=count * kind.price_nanos_per_second,
        gpu_count=count,
    )


def _one(model: str) -> HardwareKind:
    words = set(re.split(r"[\s-]+", model))
    for needed, sku, name, price in _LISTED:
        if needed <= words:
            return HardwareKind(sku, name, price, model, 1)
    plain = re.sub(r"^(NVIDIA|Tesla)\s+", "", model)
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    return HardwareKind(f"gpu-{slug}", f"Nvidia {plain} GPU", UNLISTED_GPU_NANOS_PER_SECOND, model, 1)
