"""Pruning: it writes zeros where a reset writes, and is the network with the neurons cut out."""

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity import analysis
from tests.neuroactivity.backends import to_numpy
from tests.neuroactivity.cases import CASES, CONCATENATION, DENSE_TORCH, TWIN_CRITICS
from tests.neuroactivity.test_resets import assert_same


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pruning_writes_zeros_where_a_reset_writes(case):
    params, masks = case.draw(seed=1), case.draw_masks(seed=3)
    zeros = {name: np.zeros(shape) for name, shape in case.shapes.items()}
    result = analysis.prune(params, masks, case.layout)
    assert_same(result, na.reset(params, zeros, masks, case.layout), params)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("case", [TWIN_CRITICS, CONCATENATION], ids=lambda case: case.name)
def test_pruning_is_a_reset_to_zeros(case, backend):
    """In every library, compiled as a whole where the backend compiles."""
    params, masks = backend.arrays(case.draw(seed=1)), backend.arrays(case.draw_masks(seed=3))
    zeros = backend.arrays({name: np.zeros(shape) for name, shape in case.shapes.items()})
    result = backend.run(lambda params, masks: analysis.prune(params, masks, case.layout), params, masks)
    expected = na.reset(params, zeros, masks, case.layout)
    assert_same(result, {name: to_numpy(array) for name, array in expected.items()}, params)


MLP = na.Layout(
    [
        na.dense("a", weight=("a.w", "neuron in"), bias="a.b", outgoing=[("b.w", "out neuron")]),
        na.dense("b", weight=("b.w", "neuron in"), bias="b.b", outgoing=[("c.w", "out neuron")]),
        na.dense("c", weight=("c.w", "neuron in"), bias="c.b", resettable=False),
    ]
)


def forward(params, x, activation):
    """The network of the layout, in plain NumPy."""
    for name in "ab":
        x = activation(x @ params[f"{name}.w"].T + params[f"{name}.b"])
    return x @ params["c.w"].T + params["c.b"]


@pytest.mark.parametrize("activation", [lambda x: np.maximum(x, 0), np.tanh, lambda x: 1 / (1 + np.exp(-x))])
def test_a_pruned_network_is_the_network_with_the_neurons_cut_out(activation):
    """Also for a sigmoid, which sends 0.5 of zero: nothing reads it. The head keeps its neurons, whatever its mask."""
    generator = np.random.default_rng(0)
    shapes = {"a.w": (6, 3), "a.b": (6,), "b.w": (5, 6), "b.b": (5,), "c.w": (2, 5), "c.b": (2,)}
    params = {name: generator.standard_normal(shape) for name, shape in shapes.items()}
    masks = {"a": np.isin(np.arange(6), [0, 3, 4]), "b": np.isin(np.arange(5), [2]), "c": np.ones(2, dtype=bool)}
    a, b = ~masks["a"], ~masks["b"]
    cut = {
        "a.w": params["a.w"][a],
        "a.b": params["a.b"][a],
        "b.w": params["b.w"][b][:, a],
        "b.b": params["b.b"][b],
        "c.w": params["c.w"][:, b],
        "c.b": params["c.b"],
    }
    x = generator.standard_normal((7, 3))
    pruned = analysis.prune(params, masks, MLP)
    np.testing.assert_allclose(forward(pruned, x, activation), forward(cut, x, activation), rtol=1e-12)
    assert abs(forward(pruned, x, activation) - forward(params, x, activation)).max() > 0.1
    assert pruned["c.b"] is params["c.b"]


def test_pruning_passes_over_heads_and_absent_groups():
    params = DENSE_TORCH.draw(1)
    result = analysis.prune(params, {"fc2": np.ones(4, dtype=bool)}, DENSE_TORCH.layout)
    assert all(result[name] is params[name] for name in params)


def test_pruning_names_what_does_not_fit():
    with pytest.raises(na.LayoutError, match=r"^group 'nobody' of the masks is not in the layout"):
        analysis.prune({}, {"nobody": np.ones(2, dtype=bool)}, MLP)
    with pytest.raises(
        na.LayoutError, match=r"^group 'h': expected a boolean mask of shape \(2, 5\), got bool of shape"
    ):
        analysis.prune(TWIN_CRITICS.draw(1), {"h": np.ones(5, dtype=bool)}, TWIN_CRITICS.layout)


def test_the_lowest_scores_need_no_function_of_their_own():
    """``reset_masks`` with a tau above every score takes a fraction of the lowest, as the page on analyses says."""
    scores = np.random.default_rng(0).permutation(8) / 3.5
    mask = na.reset_masks({"g": scores}, tau=8, max_fraction=0.5)["g"]
    np.testing.assert_array_equal(mask, scores < 4 / 3.5)
