"""digits-diffusion draws the digit that was asked for, as a judge finds that never saw its images."""

import struct
from pathlib import Path

import pytest

from core.cog_config import CogConfig
from tests.cog_models.served import Model, Serve, content_of
from tests.support.bundles import shared_environments
from worker.model_process import model_environment, run

JUDGE = Path(__file__).with_name("judge_digits.py")
JUDGE_REQUIREMENTS = ("pillow==13.0.0", "scikit-learn==1.9.1")
JUDGE_TIMEOUT_SECONDS = 60
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
async def model(serve: Serve) -> Model:
    return await serve("digits-diffusion")


async def judge(images: list[str], folder: Path) -> list[int]:
    """What a classifier, fitted on the same handwritten digits, reads in the images."""
    environment = await shared_environments().ensure(CogConfig("", requirements=JUDGE_REQUIREMENTS))
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(content_of(image))
    finished = await run(
        [str(environment.python), str(JUDGE), *map(str, paths)],
        environment=model_environment(environment.path, folder, {"OMP_NUM_THREADS": "1"}),
        cwd=folder,
        timeout_seconds=JUDGE_TIMEOUT_SECONDS,
    )
    assert finished.code == 0, finished.lines
    return [int(line) for line in finished.lines]


async def test_at_least_8_of_10_digits_are_read_as_what_was_asked_for(model: Model, tmp_path: Path) -> None:
    images = [(await model.predict(digit=digit, seed=digit)).done.output[0] for digit in range(10)]
    read = await judge(images, tmp_path)
    assert sum(found == wanted for wanted, found in enumerate(read)) >= 8, read


async def test_a_seed_means_the_same_images_and_another_seed_means_others(model: Model) -> None:
    first, again, other = [
        (await model.predict(digit=7, num_inference_steps=4, seed=seed)).done.output for seed in (1, 1, 2)
    ]
    assert first == again != other


async def test_as_many_different_png_files_come_as_were_asked_for(model: Model) -> None:
    images = (await model.predict(digit=3, num_outputs=4, num_inference_steps=4)).done.output
    contents = {content_of(image) for image in images}
    assert len(images) == len(contents) == 4
    assert all(content.startswith(PNG) for content in contents)
    assert {struct.unpack(">II", content[16:24]) for content in contents} == {(128, 128)}


async def test_its_logs_tell_the_device_and_the_seed_it_chose(model: Model) -> None:
    logs = (await model.predict(digit=0, num_inference_steps=1)).logs
    assert "Drawing 1 x 0 on c" in logs
    assert "with seed " in logs


@pytest.mark.parametrize(
    "wrong", [{}, {"digit": 10}, {"digit": -1}, {"digit": 1, "num_outputs": 5}, {"digit": 1, "num_inference_steps": 0}]
)
async def test_inputs_out_of_bounds_are_refused(model: Model, wrong: dict[str, int]) -> None:
    assert (await model.predict(**wrong)).done.status == "failed"
