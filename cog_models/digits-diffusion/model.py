"""A small class-conditional diffusion model of 8x8 images, and how to sample from it.

Knows noise, labels and pixels in [-1, 1]. Knows nothing of files, devices or where the images came from.

Time runs from 0 (image) to 1 (noise): x = cos(pi t / 2) image + sin(pi t / 2) noise. The network predicts
v = cos noise - sin image, from which both parts follow at every t (Salimans and Ho, 2022).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 8
NO_DIGIT = 10  # the label that stands for "any digit": what guidance steers away from


class Block(nn.Module):
    """Two convolutions with a shortcut, scaled and shifted by what is known of time and label."""

    def __init__(self, inside: int, outside: int, context: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, inside), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1))
        self.norm = nn.GroupNorm(8, outside)
        self.context = nn.Linear(context, 2 * outside)
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(0.1), nn.Conv2d(outside, outside, 3, padding=1))
        self.shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.context(context)[:, :, None, None].chunk(2, dim=1)
        return self.shortcut(x) + self.second(self.norm(self.first(x)) * (1 + scale) + shift)


class Denoiser(nn.Module):
    """A U-Net of two levels, 8x8 and 4x4."""

    def __init__(self, width: int = 48, context: int = 128) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2 ** torch.linspace(-1, 6, 16) * math.pi, persistent=False)
        self.time = nn.Sequential(nn.Linear(32, context), nn.SiLU(), nn.Linear(context, context))
        self.label = nn.Embedding(NO_DIGIT + 1, context)
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.ModuleList([Block(width, width, context) for _ in range(2)])
        self.middle = nn.ModuleList([Block(width, 2 * width, context), Block(2 * width, 2 * width, context)])
        self.up = nn.ModuleList([Block(3 * width, width, context), Block(2 * width, width, context)])
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        angles = time[:, None] * self.frequencies
        context = functional.silu(self.time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.label(label))
        fine = self.enter(x)
        first = self.down[0](fine, context)
        second = self.down[1](first, context)
        coarse = functional.avg_pool2d(second, 2)
        for block in self.middle:
            coarse = block(coarse, context)
        x = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        x = self.up[0](torch.cat([x, second], dim=1), context)
        x = self.up[1](torch.cat([x, first], dim=1), context)
        return self.leave(x)


def signal_and_noise(time: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the image and how much of the noise there is at this time."""
    return torch.cos(time * math.pi / 2), torch.sin(time * math.pi / 2)


@torch.inference_mode()
def sample(model: Denoiser, labels: Tensor, noise: Tensor, steps: int, guidance: float) -> Tensor:
    """Turn noise into images of the labels: DDIM with classifier-free guidance."""
    x = noise
    both = torch.cat([labels, torch.full_like(labels, NO_DIGIT)])
    times = torch.linspace(1, 0, steps + 1, device=noise.device)
    for now, following in zip(times[:-1], times[1:], strict=True):
        wanted, any_digit = model(x.repeat(2, 1, 1, 1), now.expand(len(both)), both).chunk(2)
        v = any_digit + guidance * (wanted - any_digit)
        signal, sigma = signal_and_noise(now)
        image = (signal * x - sigma * v).clamp(-1, 1)
        remaining = (x - signal * image) / sigma
        signal, sigma = signal_and_noise(following)
        x = signal * image + sigma * remaining
    return x
