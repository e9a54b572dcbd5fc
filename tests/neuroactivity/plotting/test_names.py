"""Names are drawn as they are: no formula, no markup, no control character, and none is left out of a legend."""

import io

import numpy as np
import pytest

from neuroactivity import plotting

NAMES = ["$\\frac{$", "$x$", "\\$", "_hidden", "\x1b[31m", "\u202eabc", "a\nb", "%", "{}"]


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_drawn(name):
    axes = plotting.inactivity([0, 1], {name: [0.1, 0.2], "other": [0, 0]})
    axes.figure.savefig(io.BytesIO(), format="png", dpi=20)
    assert len(axes.get_legend().get_texts()) == 2
    axes = plotting.score_map([0, 1], {name: np.ones((2, 3))})
    axes.figure.savefig(io.BytesIO(), format="png", dpi=20)
