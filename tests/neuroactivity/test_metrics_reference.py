"""Both scores, on every layout, every array library and every dtype, against the reference."""

import itertools
import math

import numpy as np
import pytest

import neuroactivity as na
from tests import reference
from tests.neuroactivity.backends import ACCUMULATED, BACKENDS, EPSILON, dtype_name, to_numpy
from tests.neuroactivity.cases import CASES, DENSE_FLAX, VARIED, draw


def rounding(case, arrays, dtype):
    """A bound on the relative error of a score in ``dtype``, however the library orders its sums.

    A sum of N terms of one sign has a relative error of at most N - 1 roundings, each half an epsilon. A score is one
    sum of N magnitudes over the sum of n such means; each further operation adds a rounding.
    """
    largest = 0
    for name, shape in case.scores.items():
        params = [view.param for view in case.layout[name].incoming] if name not in arrays else [name]
        entries = sum(arrays[param].size for param in params) // math.prod(shape)
        largest = max(largest, 2 * entries + shape[-1])
    return (largest + 4) * EPSILON[dtype] / 2


def assert_scores(scores, expected, *, rtol, dtype):
    assert set(scores) == set(expected)
    for name, values in expected.items():
        assert dtype_name(scores[name]) == dtype
        assert tuple(scores[name].shape) == values.shape
        np.testing.assert_allclose(to_numpy(scores[name]), values, rtol=rtol, atol=0, err_msg=name)


def check_grama(case, backend, dtype):
    grads = backend.arrays(case.draw(seed=1), dtype)
    exact = {name: to_numpy(array) for name, array in grads.items()}
    scores = backend.run(lambda grads: na.grama(grads, case.layout), grads)
    accumulated = ACCUMULATED[dtype]
    rtol = rounding(case, exact, accumulated)
    assert_scores(scores, reference.grama(exact, case.layout), rtol=rtol, dtype=accumulated)


@pytest.mark.sampled(40)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_grama(case, backend):
    for dtype in {"float32", "float64"} & set(backend.dtypes):
        check_grama(case, backend, dtype)


@pytest.mark.sampled(16)
@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.name)
def test_grama_of_low_precision_is_exact_to_float32(case, backend):
    """Edge case, low precision: the values are what fp16 and bf16 hold, the sums are those of float32."""
    for dtype in {"float16", "bfloat16"} & set(backend.dtypes):
        check_grama(case, backend, dtype)


@pytest.mark.sampled(40)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_scores_of_outputs(case, backend):
    """``tau_dormant`` averages over all axes but neuron and stack; ``signal="activations"`` is the same sum."""

    def compute(outputs):
        return na.tau_dormant(outputs, case.layout), na.grama(outputs, case.layout, signal="activations")

    dtype = backend.dtypes[-1]
    outputs = backend.arrays(draw(case.outputs, seed=2), dtype)
    exact = {name: to_numpy(array) for name, array in outputs.items()}
    expected = reference.tau_dormant(exact, case.layout)
    for scores in backend.run(compute, outputs):
        assert_scores(scores, expected, rtol=rounding(case, exact, dtype), dtype=dtype)


COMPLETE = [case for case in CASES if case.name != "uneven ownership"]


@pytest.mark.parametrize("case", COMPLETE, ids=lambda case: case.name)
def test_any_subset_of_gradients_may_be_none(case):
    """Edge case, a gradient that is None: that view is left out; the group, when no view remains."""
    grads = case.draw(seed=3)
    incoming = sorted({view.param for group in case.layout.values() for view in group.incoming})
    for size in range(len(incoming) + 1):
        for left_out in itertools.combinations(incoming, size):
            partial = {name: None if name in left_out else array for name, array in grads.items()}
            scores = na.grama(partial, case.layout)
            assert_scores(scores, reference.grama(partial, case.layout), rtol=1e-14, dtype="float64")


def test_a_neuron_left_without_any_entry_is_an_error():
    """Where an index gives a neuron nothing in the views that remain, its score has no meaning."""
    case = na.Layout([na.NeuronGroup("g", [na.ParamView("w", "neuron in", index=(0, 2, 2)), ("v", "neuron")])])
    grads = {"w": np.ones((3, 2)), "v": np.ones(3)}
    assert na.grama(grads, case)["g"].shape == (3,)
    with pytest.raises(na.LayoutError, match=r"^group 'g': neuron 1 has no entry in any parameter that is left$"):
        na.grama(grads | {"v": None}, case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_groups_come_in_the_order_of_the_layout(case):
    grads = case.draw(seed=4)
    backwards = dict(reversed(grads.items()))
    outputs = draw(dict(reversed(case.outputs.items())), seed=4)
    assert list(na.grama(backwards, case.layout)) == list(case.layout)
    assert list(na.tau_dormant(outputs, case.layout)) == list(case.layout)


def test_scores_agree_across_libraries_to_a_few_ulps():
    """On a layer of a common size, in float32, and with sums along either axis of the array."""
    generator = np.random.default_rng(0)
    grads = {name: generator.standard_normal((256, 256)) for name in ("a/kernel", "b/kernel")}
    grads |= {"a/bias": generator.standard_normal(256), "b/bias": generator.standard_normal(256)}
    results = []
    for backend in BACKENDS:
        if "float32" in backend.dtypes:
            arrays = backend.arrays(grads, "float32")
            scores = backend.run(lambda grads: na.grama(grads, DENSE_FLAX.layout), arrays)
            results.append(to_numpy(scores["a"]).astype(np.float32))
    for a, b in itertools.combinations(results, 2):
        np.testing.assert_array_max_ulp(a, b, maxulp=16)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_entries_of_several_views_add_up_in_any_order(order):
    """Two views in which all neurons have as many entries, and one in which they do not."""
    views = [("w", "neuron in"), ("v", "in neuron"), na.ParamView("u", "neuron in", index=(0, 1, 0, -1, 0))]
    layout = na.Layout([na.NeuronGroup("g", [views[i] for i in order], neurons=2)])
    grads = draw({"w": (2, 3), "v": (5, 2), "u": (5, 4)}, seed=1)
    np.testing.assert_allclose(na.grama(grads, layout)["g"], reference.grama(grads, layout)["g"], rtol=1e-14)


@pytest.mark.sampled(20)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_score_of_several_batches_is_that_of_their_magnitudes_added_up(case, backend):
    """The reference: the mean of each neuron's magnitudes, batch by batch, then divided by the group's mean."""
    batches = [backend.arrays(case.draw(seed)) for seed in range(3)]
    measured = [na.magnitudes(batch, case.layout) for batch in batches]
    scores = na.scores({name: measured[0][name] + measured[1][name] + measured[2][name] for name in measured[0]})
    exact = [{name: np.abs(to_numpy(array)) for name, array in batch.items()} for batch in batches]
    expected = reference.grama({name: sum(batch[name] for batch in exact) for name in exact[0]}, case.layout)
    for name, values in scores.items():
        np.testing.assert_allclose(to_numpy(values), expected[name], rtol=1e-5)
        single = na.scores({name: measured[0][name]})[name]
        np.testing.assert_allclose(to_numpy(single), to_numpy(na.grama(batches[0], case.layout)[name]), rtol=1e-6)
