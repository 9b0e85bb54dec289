"""resize-image gives an image of the size and the format that was asked for."""

import struct
import zlib

import pytest

from tests.cog_models.served import Serve, content_of, data_uri

RED, CLEAR = b"\xff\x00\x00\xff", b"\x00\x00\x00\x00"
SIGNATURES = {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}


def png(width: int, height: int, pixel: bytes) -> str:
    """An image of one colour with transparency, as a data URI."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    pixels = zlib.compress((b"\0" + pixel * width) * height)
    whole = SIGNATURES["png"] + b"\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return data_uri(whole, "image/png")


def size(uri: str) -> tuple[int, int]:
    """Of a PNG, which has it in its header."""
    return struct.unpack(">II", content_of(uri)[16:24])


def first_pixel(uri: str) -> bytes:
    """Of a PNG of one pixel, whose bytes follow the byte that names the row's filter."""
    content = content_of(uri)
    start = content.index(b"IDAT") + 4
    return zlib.decompressobj().decompress(content[start:])[1:]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"width": 30}, (30, 20)),
        ({"height": 80}, (120, 80)),
        ({"width": 30, "height": 30}, (30, 20)),
        ({"width": 600, "height": 10}, (15, 10)),
        ({"width": 30, "height": 30, "keep_aspect": False}, (30, 30)),
        ({"width": 30, "keep_aspect": False}, (30, 40)),
        ({"width": 1}, (1, 1)),
    ],
)
async def test_the_result_fits_the_size_asked_for(
    serve: Serve, asked: dict[str, int], expected: tuple[int, int]
) -> None:
    model = await serve("resize-image")
    result = await model.predict(image=png(60, 40, RED), **asked)
    assert size(result.done.output) == expected
    assert f"Resizing 60x40 to {expected[0]}x{expected[1]}" in result.logs


@pytest.mark.parametrize("wanted", ["png", "jpeg", "webp"])
async def test_the_result_has_the_format_asked_for_and_the_same_format_on_the_way_back(
    serve: Serve, wanted: str
) -> None:
    model = await serve("resize-image")
    there = (await model.predict(image=png(6, 4, RED), width=3, format=wanted)).done.output
    back = (await model.predict(image=there, width=6)).done.output
    assert content_of(there).startswith(SIGNATURES[wanted])
    assert content_of(back).startswith(SIGNATURES[wanted])


async def test_colours_are_kept(serve: Serve) -> None:
    model = await serve("resize-image")
    assert first_pixel((await model.predict(image=png(6, 6, RED), width=1)).done.output) == RED


async def test_transparency_becomes_white_in_a_jpeg(serve: Serve) -> None:
    model = await serve("resize-image")
    jpeg = (await model.predict(image=png(6, 6, CLEAR), width=6, format="jpeg")).done.output
    assert first_pixel((await model.predict(image=jpeg, width=1, format="png")).done.output) == b"\xff\xff\xff"


async def test_without_a_size_it_says_what_is_missing(serve: Serve) -> None:
    result = await (await serve("resize-image")).predict(image=png(6, 4, RED))
    assert result.done.status == "failed"
    assert "Neither width nor height was given" in result.done.error


async def test_a_file_that_is_no_image_fails_the_prediction_and_not_the_model(serve: Serve) -> None:
    model = await serve("resize-image")
    refused = await model.predict(image=data_uri(b"no image", "image/png"), width=3)
    following = await model.predict(image=png(6, 4, RED), width=3)
    assert (refused.done.status, refused.done.container_lost) == ("failed", False)
    assert "cannot identify image file" in refused.done.error
    assert following.done.status == "succeeded"
