"""What a user's type checker sees of the core: mypy runs on this file, strictly, and nothing runs the code."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import neuroactivity as na


def core(weight: NDArray[np.float32]) -> na.ActivityReport:
    layout = na.Layout([na.dense("fc", weight=("w", "neuron in"), bias="b", outgoing=[("v", "out neuron")])])
    scores = na.grama({"w": weight}, layout)
    masks = na.reset_masks(scores, tau=0.01, max_fraction=0.05)
    na.reset({"w": weight}, {"w": weight}, masks, layout, outgoing="small")
    for name, group in layout.items():
        assert_type(name, str)
        assert_type(group, na.NeuronGroup)
    return na.summarize(scores, layout, 0.01, masks=masks)
