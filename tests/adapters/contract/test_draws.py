"""Seeds, draws and resumed runs: the same promises in all three frameworks."""

import random
from functools import partial

import keras
import numpy as np
import pytest
import torch

import neuroactivity as na
from tests.adapters.contract.network import FIRST_ALONE, gradients, weights

pytestmark = pytest.mark.filterwarnings("ignore:.*resets do not last")
SOURCES = pytest.mark.parametrize("initializer", ["drawn", "snapshot"])
ALL = {"optimizer": "sgd", "tau": 100.0, "groups": FIRST_ALONE, "initial": weights({})}
"""Every neuron of the first layer is reset at every step."""


def first(side):
    """The kernel that resets draw anew."""
    return side.params()["first/kernel"]


@pytest.mark.sampled(3)
@SOURCES
def test_equal_seeds_write_equal_values_others_do_not_and_the_default_is_zero(case, initializer):
    kernels = []
    for options in ({}, {"seed": 0}, {"seed": 1}):
        side = case.wrapped(**ALL, initializer=initializer, **options)
        side.step(gradients({}))
        assert side.counts().neurons_reset == 7
        kernels.append(first(side))
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


@pytest.mark.sampled(3)
@SOURCES
def test_every_reset_draws_other_values(case, initializer):
    side, kernels = case.wrapped(**ALL, initializer=initializer), [weights({})["first/kernel"]]
    for step in range(3):
        side.step(gradients({}, step))
        kernels.append(first(side))
    assert side.counts().resets == 3
    assert len({kernel.tobytes() for kernel in kernels}) == 4


def test_a_snapshot_is_drawn_from_neuron_by_neuron(case):
    side = case.wrapped(**ALL, initializer="snapshot")
    side.step(gradients({}))
    start = weights({})["first/kernel"]
    for column in first(side).T:
        assert min(abs(start - column[:, None]).max(axis=0)) <= case.driver.rounding


@pytest.mark.sampled(3)
@SOURCES
def test_global_generators_are_left_as_they_were(case, initializer):
    noise = []
    for make in (case.plain, partial(case.wrapped, tau=100.0, initializer=initializer)):
        keras.utils.clear_session()  # or Keras 3.10 goes on with the generator that it has
        keras.utils.set_random_seed(3)  # Python's, NumPy's and TensorFlow's
        torch.manual_seed(3)
        side = make(optimizer="sgd", groups=FIRST_ALONE, initial=weights({}))
        side.step(gradients({}))
        noise.append([random.random(), np.random.random(), *case.driver.noise()])
    assert side.counts().neurons_reset == 7
    assert noise[0] == noise[1]


@pytest.mark.sampled(3)
@SOURCES
def test_a_resumed_run_is_the_uninterrupted_one(case, initializer):
    """Its resets before and after the pause, and the moments that they cleared."""
    options = {"tau": 0.95, "max_fraction": 0.2, "every": 2, "seed": 3, "initializer": initializer}
    whole = case.wrapped(**options)
    for step in range(3):
        whole.step(gradients({}, step))
    before, resumed = whole.counts(), case.wrapped(**options, initial=weights({}, seed=9))
    resumed.resume(whole.state())
    assert resumed.counts() == before
    for step in range(3, 6):
        whole.step(gradients({}, step))
        resumed.step(gradients({}, step))
    assert 0 < before.resets < whole.counts().resets
    assert resumed.counts() == whole.counts()
    assert isinstance(resumed.report(), na.ActivityReport)
    assert resumed.report() == whole.report()
    for one, other in [(resumed.params(), whole.params()), *zip(resumed.moments(), whole.moments(), strict=True)]:
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)
