"""What counts as a proof, on networks whose gradients are written out by hand."""

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.discovery.prober import Prober
from neuroactivity.discovery.proof import prove, read_only_by
from tests.neuroactivity.discovery.arrays import Bottleneck, Chain, Skip, dense, draws, without_bias


def prober_of(network) -> Prober:
    return Prober(na.Layout([dense(name) for name in network.sizes]), network, draws(network.sizes), seed=0)


def test_true_readers_are_proved():
    prober = prober_of(Skip())
    beside = na.ParamView("head.weight", "out neuron", index=(*[-1] * 5, *range(6)))
    assert prove(prober, {"a": ["a"]}, {"a": [na.ParamView("b.weight", "out neuron"), beside]}) == {"a"}


@pytest.mark.parametrize(
    "views",
    [
        [na.ParamView("b.weight", "out neuron")],
        [na.ParamView("head.weight", "out neuron", index=(*[-1] * 5, *range(6)))],
        [
            na.ParamView("b.weight", "out neuron"),
            na.ParamView("head.weight", "out neuron", index=(*range(6), *[-1] * 5)),
        ],
        [
            na.ParamView("b.weight", "out neuron"),
            na.ParamView("head.weight", "out neuron", index=(*[-1] * 5, *range(5), -1)),
        ],
        [
            na.ParamView("b.weight", "out neuron", index=(1, 0, 2, 3, 4, 5)),
            na.ParamView("head.weight", "out neuron", index=(*[-1] * 5, *range(6))),
        ],
        [],
    ],
    ids=["a reader is missing", "the other is missing", "wrong offset", "a position is missing", "swapped", "none"],
)
def test_missing_and_misplaced_readers_are_refuted(views):
    assert prove(prober_of(Skip()), {"a": ["a"]}, {"a": views}) == set()


@pytest.mark.parametrize("alive", range(16))
def test_a_neuron_that_another_group_s_cut_has_killed_proves_nothing(alive):
    """``b`` has a gradient in one draw alone, and in half of all cases that is when what it reads has been cut off."""
    network = Bottleneck()
    drawn = draws(network.sizes)
    for number, params in enumerate(drawn):
        params["a.bias"] = np.full_like(params["a.bias"], 3)  # what ``b`` reads is positive
        params["b.weight"] = np.abs(params["b.weight"]) * (1 if number == alive else -1)
    prober = Prober(na.Layout([dense("a"), without_bias("b"), dense("head")]), network, drawn, seed=0)
    fed_by_a = [
        na.ParamView("b.weight", "out neuron", index=(0,)),
        na.ParamView("head.weight", "out neuron", index=(-1, -1, -1, -1, 1)),
    ]
    for index, proved in (((0, 1, 2, 3, -1), {"a", "b"}), ((-1, 1, 2, 3, -1), {"a"})):
        fed_by_b = [na.ParamView("head.weight", "out neuron", index=index)]
        assert prove(prober, {"a": ["a"], "b": ["b"]}, {"a": fed_by_a, "b": fed_by_b}) == proved


def test_a_neuron_that_never_has_a_gradient_proves_nothing():
    class Blind(Chain):
        def __call__(self, p):
            grads = super().__call__(p)
            grads["a.weight"][2], grads["a.bias"][2] = 0, 0
            return grads

    assert prove(prober_of(Blind()), {"a": ["a"]}, {"a": [na.ParamView("b.weight", "out neuron")]}) == set()


def test_a_group_is_read_only_by_views_without_which_it_has_no_gradient():
    below = na.ParamView("b.weight", "out neuron")
    beside = na.ParamView("head.weight", "out neuron", index=(*[-1] * 5, *range(6)))
    assert read_only_by(prober_of(Skip()), ["a"], [], [below, beside]) == {"a"}
    assert read_only_by(prober_of(Skip()), ["a"], [], [below]) == set()


@pytest.mark.parametrize("outputs", [None, [np.ones(3)], [np.array([1.0, np.nan])]], ids=["none", "finite", "NaN"])
def test_gradients_that_are_not_finite_prove_nothing_but_outputs_may(outputs):
    class Undefined(Chain):
        def __call__(self, p):
            grads = super().__call__(p)
            cut = bool((p["b.weight"] == 0).all(0).any())
            return {name: value * np.nan if cut and name[0] == "a" else value for name, value in grads.items()}

    views, network = [na.ParamView("b.weight", "out neuron")], Undefined()
    layout = na.Layout([dense(name) for name in network.sizes])
    output_fn = outputs and (lambda p: outputs)
    prober = Prober(layout, network, draws(network.sizes), output_fn=output_fn, seed=0)
    assert prove(prober, {"a": ["a"]}, {"a": views}) == set()
    assert prober.not_finite == {"a"}
    assert read_only_by(prober, ["a"], [], views) == ({"a"} if outputs and np.isfinite(outputs[0]).all() else set())
