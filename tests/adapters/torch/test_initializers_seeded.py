"""Initialisers that draw from other generators than PyTorch's, or fail."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from neuroactivity_torch import layout_of, parameters
from neuroactivity_torch.initializers import FreshValues
from tests.adapters.torch.models import X, mlp

LAYOUT = layout_of(mlp(), X)


class Numpy(nn.Linear):
    """Draws with the global generators of NumPy and Python, as much older code does."""

    def reset_parameters(self):
        values = np.random.standard_normal(self.weight.shape) * random.uniform(0.5, 1)
        self.weight.data = torch.from_numpy(values).float()
        nn.init.zeros_(self.bias)


def numpy_mlp():
    return nn.Sequential(Numpy(5, 16), nn.ReLU(), Numpy(16, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.counts(faults=1)
@pytest.mark.parametrize("initializer", ["layer", lambda key: parameters(numpy_mlp())])
def test_initialisers_that_draw_elsewhere_draw_what_the_key_says_and_disturb_nothing(initializer):
    model, names = numpy_mlp(), ["0.weight", "2.weight"]
    of_python, of_numpy = random.getstate(), np.random.get_state()
    fresh = FreshValues(model, LAYOUT, initializer, seed=0)
    first, again, other = fresh.draw(1, names), fresh.draw(1, names), fresh.draw(2, names)
    assert all(torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name]) for name in names)
    assert random.getstate() == of_python
    assert all(np.array_equal(one, two) for one, two in zip(of_numpy, np.random.get_state(), strict=True))


def test_an_initialiser_that_fails_is_named():
    class Needy(nn.Linear):
        def reset_parameters(self):
            if hasattr(self, "gain"):
                raise TypeError("it needs a gain")

    model = nn.Sequential(Needy(5, 16), *mlp()[1:])
    model[0].gain = 2.0
    with pytest.raises(ValueError, match=r"'0\.weight': Needy\.reset_parameters\(\) fails: it needs a gain; use init"):
        FreshValues(model, LAYOUT, "layer", seed=0)
