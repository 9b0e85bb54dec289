"""Trains the model on scikit-learn's handwritten digits and writes weights.pt. About 12 minutes on one core.

pip install -r requirements.txt scikit-learn==1.9.1 && python train.py
"""

import copy
import math
import time
from pathlib import Path

import torch
from model import NO_DIGIT, Denoiser, signal_and_noise
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

STEPS = 1800
BATCH = 128
LEARNING_RATE = 1e-3
UNLABELLED = 0.15  # share of examples that hide their label, so that guidance has something to steer away from
WEIGHTS = Path(__file__).parent / "weights.pt"


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32, device=device)[:, None] / 8 - 1
    labels = torch.tensor(digits.target, device=device)
    model = Denoiser().to(device)
    average = copy.deepcopy(model)
    print(f"Training {sum(p.numel() for p in model.parameters()):,} parameters on {len(images)} images, on {device}")
    train(model, average, images, labels)
    torch.save({name: value.half().cpu() for name, value in average.state_dict().items()}, WEIGHTS)
    print(f"Wrote {WEIGHTS} ({WEIGHTS.stat().st_size:,} bytes)")


def train(model: Denoiser, average: Denoiser, images: Tensor, labels: Tensor) -> None:
    """Fit the model; `average` follows it with exponential decay, and is what is kept."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    started = time.monotonic()
    running = 0.0
    for step in range(1, STEPS + 1):
        # It warms up, then falls to nothing along a cosine.
        rate = LEARNING_RATE * min(step / 100, (1 + math.cos(math.pi * step / STEPS)) / 2)
        optimizer.param_groups[0]["lr"] = rate
        chosen = torch.randint(len(images), (BATCH,), device=images.device)
        value = loss(model, jitter(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        follow(average, model, decay=min(0.999, step / (step + 10)))
        running += (value.item() - running) / min(step, 100)
        if step % 250 == 0:
            print(f"step {step}  loss {running:.4f}  {time.monotonic() - started:.0f} s", flush=True)


def loss(model: Denoiser, images: Tensor, labels: Tensor) -> Tensor:
    time = torch.rand(len(images), device=images.device)
    noise = torch.randn_like(images)
    signal, sigma = (part[:, None, None, None] for part in signal_and_noise(time))
    hidden = torch.rand(len(images), device=images.device) < UNLABELLED
    predicted = model(signal * images + sigma * noise, time, labels.masked_fill(hidden, NO_DIGIT))
    return functional.mse_loss(predicted, signal * noise - sigma * images)


def jitter(images: Tensor) -> Tensor:
    """Turn, stretch and shift each image a little, so that 1,797 of them are not learnt by heart."""
    count = len(images)
    angle, slant = torch.randn(2, count, device=images.device) * 0.08
    stretch = 1 + torch.randn(2, count, device=images.device) * 0.04
    shift = torch.randn(2, count, device=images.device) * 0.04
    rows = [
        torch.stack([stretch[0] * angle.cos(), slant - angle.sin(), shift[0]], dim=1),
        torch.stack([angle.sin(), stretch[1] * angle.cos(), shift[1]], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    # grid_sample pads with zero; black is -1, hence the shift by one.
    return functional.grid_sample(images + 1, grid, align_corners=False) - 1


@torch.no_grad()
def follow(average: Denoiser, model: Denoiser, decay: float) -> None:
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


if __name__ == "__main__":
    main()
