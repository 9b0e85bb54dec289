"""Prints the digit it reads in each image file: `judge_digits.py IMAGE...`. Runs where scikit-learn and Pillow are.

The classifier is fitted on the dataset that the diffusion model was trained on, and knows nothing of the model.
"""
# ruff: noqa: T201 - printing is how it answers.

import sys

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

SIDE, DARKEST = 8, 16


def read_image(path: str) -> np.ndarray:
    """The image in the dataset's own terms: 64 numbers from 0 to 16."""
    small = Image.open(path).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=float).ravel() * DARKEST / 255


def main(paths: list[str]) -> None:
    digits = load_digits()
    classifier = SVC(gamma=0.001).fit(digits.data, digits.target)
    print(*classifier.predict([read_image(path) for path in paths]), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
