"""A reset by rows is the core's reset of whole arrays, and its reset of moments."""

import numpy as np
import pytest
import tensorflow as tf

import neuroactivity as na
from neuroactivity.wrapping import written_params
from neuroactivity_tensorflow.optimizers import BY_ENTRY
from neuroactivity_tensorflow.parameters import assign_all
from neuroactivity_tensorflow.rows import moment_patches, patches
from neuroactivity_tensorflow.slots import Member, cleared_moments
from tests.neuroactivity.cases import CASES, draw


def centred(parameter, optimizer):
    """A start that depends on all entries of a parameter."""
    return parameter - tf.reduce_mean(parameter)


@pytest.mark.sampled(28)
@pytest.mark.parametrize("outgoing", ["zero", "small", "fresh", "keep"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_reset_by_rows_is_the_reset_of_whole_arrays(case, outgoing):
    rng = np.random.default_rng(5)
    old, fresh = [{name: tf.constant(x) for name, x in draw(case.shapes, seed).items()} for seed in (5, 6)]
    masks = {name: tf.constant(rng.random(shape) < 0.5) for name, shape in case.scores.items()}
    variables = {name: tf.Variable(value) for name, value in old.items()}
    rules = {"zero": BY_ENTRY[0], "same": BY_ENTRY[1], "whole": centred}
    slots = {rule: {id(variables[name]): tf.Variable(7 * value) for name, value in old.items()} for rule in rules}
    found = [Member(None, rules, slots)]

    names = written_params(masks, case.layout, outgoing=outgoing)
    expected = na.reset(old, fresh, masks, case.layout, outgoing=outgoing)
    cleared = cleared_moments(found, variables, expected, masks, case.layout, outgoing=outgoing)
    written = patches(masks, case.layout, variables, fresh.__getitem__, outgoing)
    assert set(written) <= set(names)
    moments = moment_patches(found, variables, written)
    assign_all([*[(variables[name], parts) for name, parts in written.items()], *moments])
    for name, value in expected.items():
        np.testing.assert_array_equal(variables[name], value)
    for variable, value in cleared:
        np.testing.assert_allclose(variable, value, rtol=1e-12 if variable.dtype == tf.float64 else 1e-6)


def test_neurons_of_nothing_write_nothing():
    layout = na.Layout([na.dense("a", weight=("w", "in neuron"), bias="b")])
    variables = {"w": tf.Variable(tf.ones((2, 3))), "b": tf.Variable(tf.ones(3))}
    assert patches({"a": tf.zeros(3, tf.bool)}, layout, variables, variables.__getitem__, "zero") == {}
