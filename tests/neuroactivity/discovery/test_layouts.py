"""From listed groups to a whole layout: rules, sampled parameters, merged axes."""

from typing import ClassVar

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity.discovery import MergedAxes, discover_layout, groups_by_rule
from neuroactivity.discovery.draws import sample_params
from tests.neuroactivity.discovery.arrays import INPUTS, Chain, dense, draws

LISTED = [dense(name) for name in Chain.sizes]


def normal(like, key: int):
    return np.random.default_rng(key).standard_normal(like.shape).astype(like.dtype)


def test_a_rule_is_not_asked_for_parameters_that_it_has_taken():
    asked = []

    def rule(name, value):
        asked.append(name)
        return dense(name.removesuffix(".weight")) if name.endswith(".weight") else None

    params = {"a.weight": 1, "a.bias": 2, "b.bias": 3, "b.weight": 4}
    assert [group.name for group in groups_by_rule(rule, params)] == ["a", "b"]
    assert asked == ["a.weight", "b.bias", "b.weight"]
    assert groups_by_rule(None, params) == []


def test_sampled_parameters_keep_shape_and_dtype_and_differ_by_draw_and_seed():
    params = draws(Chain.sizes, count=1)[0]
    first, again, second, seeded = (
        sample_params(params, na.Layout(LISTED), normal, draw=draw, seed=seed)
        for draw, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    for name, old in params.items():
        assert (first[name].shape, first[name].dtype) == (old.shape, old.dtype)
        assert np.array_equal(first[name], again[name])
        assert not np.array_equal(first[name], second[name])
        assert not np.array_equal(first[name], seeded[name])


def test_sampled_parameters_are_of_the_kind_of_their_group():
    params = {
        "w": np.zeros((400, 25), "float32"),
        "b": np.zeros(400, "float32"),
        "scale": np.zeros(400, "float32"),
        "free": np.full(400, 7, "float32"),
    }
    groups = [na.dense("d", weight=("w", "neuron in"), bias="b"), na.norm("n", scale="scale")]
    drawn = sample_params(params, na.Layout(groups), normal, draw=0, seed=0)
    assert drawn["w"].std() == pytest.approx(1 / 5, rel=0.1)  # one over the root of its entries
    assert drawn["b"].mean() == pytest.approx(1, abs=0.02)
    assert np.all(np.abs(drawn["scale"]) >= 0.5)
    assert np.all(np.abs(drawn["scale"]) <= 1)
    assert {-1, 1} == set(np.sign(drawn["scale"]))
    assert drawn["free"].mean() == pytest.approx(7, abs=0.02)


def test_normal_numbers_that_are_not_like_the_parameter_are_refused():
    params = draws(Chain.sizes, count=1)[0]
    with pytest.raises(na.LayoutError, match=r"noise for parameter 'a\.weight': expected .* float32, got .* float64"):
        sample_params(params, na.Layout(LISTED), lambda like, key: np.ones(like.shape), draw=0, seed=0)


def test_an_unknown_policy_for_shared_groups_is_refused():
    with pytest.raises(ValueError, match="shared"):
        discover_layout(LISTED, Chain(), draws(Chain.sizes, count=1)[0], normal=normal, shared="outgoing")


class Heads(Chain):
    """A chain whose first layer has its six neurons along two axes."""

    shapes: ClassVar = {"a.weight": (2, 3, INPUTS), "a.bias": (2, 3), "b.weight": (5, 2, 3)}

    def __call__(self, p):
        grads = super().__call__({name: value.reshape(draws(self.sizes)[0][name].shape) for name, value in p.items()})
        return {name: grad.reshape(self.shapes.get(name, grad.shape)) for name, grad in grads.items()}

    def params(self):
        values = draws(self.sizes, count=1)[0]
        return {name: value.reshape(self.shapes.get(name, value.shape)) for name, value in values.items()}


def merged(first: str, **names: str) -> dict[str, MergedAxes]:
    axes = {"a.weight": slice(0, 2), "a.bias": slice(0, 2), "b.weight": slice(1, 3)}
    return {name: MergedAxes.of(Heads.shapes[name], axes[name], neuron=first, **names) for name in axes}


def test_axes_that_are_merged_for_the_search_are_apart_in_the_layout():
    network = Heads()
    options = {"normal": normal, "merged": merged("neuron neuron", **{"in": "head dim"})}
    found = discover_layout(LISTED, network, network.params(), **options)
    assert [group.status for group in found.values()] == ["exclusive", "exclusive", "head"]
    assert found["a"].incoming == (na.ParamView("a.weight", "neuron neuron in"),)
    assert found["a"].outgoing == (na.ParamView("b.weight", "out neuron neuron"),)
    assert found["a"].activation == "... neuron neuron"
    assert found["b"].incoming == (na.ParamView("b.weight", "neuron head dim"),)
    found.validate(network.params())


def test_what_cannot_be_said_of_the_axes_themselves_is_unproved():
    network = Heads()
    views = merged("neuron neuron", **{"in": "head dim"})
    views["b.weight"] = views["b.weight"]._replace(names={"in": "head dim"})
    found = discover_layout(LISTED, network, network.params(), normal=normal, merged=views)
    assert found["a"].status == "unproved"
    assert found["a"].reason == "what it feeds was found, but cannot be written down"
    assert not found["a"].resettable
    assert found["a"].outgoing == ()
    assert found["b"].status == "exclusive"
