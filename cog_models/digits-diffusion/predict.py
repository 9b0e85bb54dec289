"""Draws handwritten digits: loads the committed weights, samples, and writes the images as PNG files.

Knows files, devices and seeds. What a digit looks like is in weights.pt, how to sample in model.py.
"""

import tempfile

import torch
from cog import BasePredictor, Input, Path
from model import SIDE, Denoiser, sample
from PIL import Image

IMAGE_SIDE = 128  # the model draws 8x8 pixels; the files are enlarged smoothly to be looked at


class Predictor(BasePredictor):
    def setup(self) -> None:
        torch.set_num_threads(1)  # the model is too small to gain from more, and instances share the machine
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = Denoiser().to(self.device).eval()
        self.model.load_state_dict(torch.load("weights.pt", map_location=self.device, weights_only=True))
        # Instances of one model may share /tmp, so each writes into a folder of its own.
        self.folder = Path(tempfile.mkdtemp(prefix="digits-diffusion-"))
        print(f"Loaded the model on {self.device}")

    def predict(
        self,
        digit: int = Input(ge=0, le=9, description="The digit to draw."),
        num_outputs: int = Input(default=1, ge=1, le=4, description="How many images to draw."),
        num_inference_steps: int = Input(
            default=25, ge=1, le=100, description="Denoising steps. More take longer and look better, up to about 50."
        ),
        guidance_scale: float = Input(
            default=2.0, ge=0, le=10, description="How strongly to insist on the digit. High values look alike."
        ),
        seed: int | None = Input(
            default=None, ge=0, le=2**32 - 1, description="Same seed, same images. Left out, it is drawn at random."
        ),
    ) -> list[Path]:
        seed = torch.randint(2**32, ()).item() if seed is None else seed
        print(f"Drawing {num_outputs} x {digit} on {self.device} with seed {seed}")
        # Noise is drawn on the CPU, so that a seed means the same images on every device.
        noise = torch.randn(num_outputs, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        labels = torch.full((num_outputs,), digit, device=self.device)
        images = sample(self.model, labels, noise.to(self.device), num_inference_steps, guidance_scale)
        return [self.write(index, image) for index, image in enumerate(images)]

    def write(self, index: int, image: torch.Tensor) -> Path:
        """Write one image of pixels in [-1, 1] as an enlarged PNG."""
        pixels = ((image[0] + 1) * 127.5).round().byte().cpu().numpy()
        path = self.folder / f"output-{index}.png"
        Image.fromarray(pixels).resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC).save(path)
        return Path(path)
