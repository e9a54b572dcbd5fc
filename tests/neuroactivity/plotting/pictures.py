"""What the tests of the pictures draw, and what they read off them."""

import math
import warnings

import numpy as np

NAN = math.nan
STEPS = [0, 1000, 4000]
SCORES = {"fc1": np.array([[0.0, 1.0, 2.0], [0.5, 0.01, 2.0], [2.0, 1e-9, 3.0]]), "v": np.array([[1.0], [NAN], [1.0]])}
RESETS = {"fc1": np.array([[True, False, False], [False, False, False], [False, True, False]])}


def draw(axes, path):
    """Draw a figure in full, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.figure.savefig(path / "picture.png", dpi=50)


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else []


def lines_of(axes):
    """The lines by the first word of their labels."""
    return {line.get_label().partition(":")[0]: line for line in axes.lines}
