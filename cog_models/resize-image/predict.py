"""Resizes one image with Pillow: a file goes in, a file comes out.

Knows sizes and formats. Knows nothing of where the file came from: Cog hands it over as a path.
"""

import tempfile

from cog import BasePredictor, Input, Path
from PIL import Image, ImageOps

MAX_SIDE = 8192
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


class Predictor(BasePredictor):
    def setup(self) -> None:
        # Instances of one model may share /tmp, so each writes into a folder of its own.
        self.folder = Path(tempfile.mkdtemp(prefix="resize-image-"))

    def predict(
        self,
        image: Path = Input(description="The image to resize."),
        width: int | None = Input(
            default=None, ge=1, le=MAX_SIDE, description="Wanted width in pixels. Give this, the height, or both."
        ),
        height: int | None = Input(
            default=None, ge=1, le=MAX_SIDE, description="Wanted height in pixels. Give this, the width, or both."
        ),
        keep_aspect: bool = Input(
            default=True,
            description="Keep the proportions: the result fits inside width x height. "
            "If false, the image is stretched to exactly that size.",
        ),
        format: str = Input(
            default="same",
            choices=["same", "png", "jpeg", "webp"],
            description="Format of the result. 'same' keeps the format of the input; other inputs than PNG, JPEG "
            "and WebP become PNG.",
        ),
    ) -> Path:
        if width is None and height is None:
            raise ValueError("Neither width nor height was given. Give at least one of them.")
        with Image.open(image) as source:
            target_format = result_format(source.format, format)
            upright = ImageOps.exif_transpose(source)
        size = result_size(upright.size, width, height, keep_aspect)
        print(f"Resizing {upright.width}x{upright.height} to {size[0]}x{size[1]} as {target_format}")
        resized = plain_mode(upright, target_format).resize(size, Image.Resampling.LANCZOS)
        output = self.folder / f"resized{SUFFIXES[target_format]}"
        resized.save(output, format=target_format.upper())
        return Path(output)


def result_size(size: tuple[int, int], width: int | None, height: int | None, keep_aspect: bool) -> tuple[int, int]:
    """The size to resize to, from the size of the image and what was asked for."""
    if not keep_aspect:
        return width or size[0], height or size[1]
    scale = min(wanted / side for wanted, side in zip((width, height), size, strict=True) if wanted)
    scale = min(scale, MAX_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def result_format(source_format: str | None, wanted: str) -> str:
    """The format to write, where 'same' falls back to PNG for formats that are only read."""
    if wanted != "same":
        return wanted
    source = (source_format or "").lower()
    return source if source in SUFFIXES else "png"


def plain_mode(image: Image.Image, target_format: str) -> Image.Image:
    """The image in a mode that can be resampled and that the format can hold. JPEG has no transparency: white shows."""
    if image.mode == "L":
        return image
    coloured = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if coloured.mode == "RGB" or target_format != "jpeg":
        return coloured
    background = Image.new("RGBA", coloured.size, "white")
    return Image.alpha_composite(background, coloured).convert("RGB")
