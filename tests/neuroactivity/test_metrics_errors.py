"""What the metrics say when a layout and the arrays do not fit: who, which parameter, what was expected, what came."""

import re

import numpy as np
import pytest
import torch

import neuroactivity as na
from tests.neuroactivity.cases import DENSE_TORCH, TWIN_CRITICS

LAYOUT = na.Layout([na.dense("fc", weight=("fc.weight", "neuron in"))])


def error_of(function, *args, kind=na.LayoutError, **options):
    with pytest.raises(kind) as caught:
        function(*args, **options)
    return str(caught.value)


def test_a_missing_parameter_is_an_error():
    """Edge case, a parameter the layout names is missing: a typo must not pass silently."""
    text = error_of(na.grama, {"fc.wieght": np.ones((2, 2)), "b": np.ones(2)}, LAYOUT)
    assert text == "group 'fc': parameter 'fc.weight' is missing; there are fc.wieght, b"
    assert error_of(na.grama, {}, LAYOUT).endswith("is missing; there are no parameters")
    many = {f"p{i}": None for i in range(9)}
    assert error_of(na.grama, many, LAYOUT).endswith("there are p0, p1, p2, p3, p4, p5, p6, p7, ...")


def test_a_missing_group_of_activations_is_an_error():
    assert error_of(na.tau_dormant, {"other": np.ones((2, 2))}, LAYOUT) == "group 'fc' is missing; there are other"
    assert error_of(na.tau_dormant, {}, LAYOUT) == "group 'fc' is missing; there are no groups"
    assert "group 'fc' is missing" in error_of(na.grama, {}, LAYOUT, signal="activations")


def test_an_unknown_signal_is_an_error():
    text = error_of(na.grama, {}, LAYOUT, signal="outputs", kind=ValueError)
    assert text == "signal: expected 'weights' or 'activations', got 'outputs'"


def test_a_shape_that_does_not_fit_is_an_error():
    text = error_of(na.grama, {"fc.weight": np.ones((2, 2, 3))}, LAYOUT)
    assert text == "group 'fc', parameter 'fc.weight', pattern 'neuron in': expected 2 axes, got shape (2, 2, 3)"
    text = error_of(na.tau_dormant, {"fc": np.ones(())}, LAYOUT)
    assert text == "group 'fc', activation '... neuron': expected at least 1 axes, got shape ()"


def test_views_that_disagree_on_the_number_of_neurons_are_an_error():
    layout = na.Layout([na.NeuronGroup("g", [("w", "neuron in"), ("v", "in neuron")])])
    text = error_of(na.grama, {"w": np.ones((4, 2)), "v": np.ones((2, 3))}, layout)
    assert text == "group 'g', parameter 'v', pattern 'in neuron': axis 'neuron' of size 3 does not fit neuron=4"


def test_views_that_disagree_on_the_stack_are_an_error():
    layout = na.Layout([na.NeuronGroup("g", [("w", "stack neuron"), ("v", "neuron stack")])])
    text = error_of(na.grama, {"w": np.ones((2, 4)), "v": np.ones((4, 3))}, layout)
    assert text == "group 'g', parameter 'v', pattern 'neuron stack': expected a stack of 2, got 3"
    layout = na.Layout([na.NeuronGroup("g", [("w", "stack stack neuron")], [("v", "stack stack neuron")])])
    with pytest.raises(na.LayoutError, match=r"parameter 'v', .* expected a stack of 3 x 2, got 2 x 3"):
        layout.validate({"w": np.ones((3, 2, 4)), "v": np.ones((2, 3, 4))})


def test_an_index_beyond_the_neurons_is_an_error():
    views = [("w", "neuron in"), na.ParamView("v", "in neuron", index=(0, 5))]
    layout = na.Layout([na.NeuronGroup("g", views)])
    text = error_of(na.grama, {"w": np.ones((4, 2)), "v": np.ones((2, 2))}, layout)
    assert text == "group 'g', parameter 'v', pattern 'in neuron': index names neuron 5, the group has 4"


def test_an_index_of_another_length_than_the_axis_is_an_error():
    layout = na.Layout([na.NeuronGroup("g", [na.ParamView("w", "neuron in", index=(0, 1, 0))])])
    text = error_of(na.grama, {"w": np.ones((4, 2))}, layout)
    assert text == "group 'g', parameter 'w', pattern 'neuron in': axis 'neuron' of size 4 does not fit neuron=3"


def test_a_number_of_neurons_that_nothing_tells_is_an_error():
    layout = na.Layout([na.NeuronGroup("attn", [("w", "(neuron dim) in")])])
    text = error_of(na.grama, {"w": np.ones((4, 2))}, layout)
    assert text == (
        "group 'attn', parameter 'w', pattern '(neuron dim) in': "
        "the sizes of 'neuron' and 'dim' cannot both be inferred; give one by name"
    )


def test_outputs_of_a_stack_need_a_stack_axis():
    group = na.NeuronGroup("q", [("w", "stack neuron in")], activation="batch neuron")
    text = error_of(na.tau_dormant, {"q": np.ones((3, 4))}, na.Layout([group]))
    assert text == "group 'q', activation 'batch neuron': expected a 'stack' axis, like the incoming parameters"


def test_outputs_of_two_stacks_need_both():
    group = na.NeuronGroup("q", [("w", "stack stack neuron in")], activation="stack batch neuron")
    text = error_of(na.tau_dormant, {"q": np.ones((2, 3, 4))}, na.Layout([group]))
    assert text == "group 'q', activation 'stack batch neuron': expected 2 'stack' axes, like the incoming parameters"


def test_outputs_without_a_stack_must_not_have_one():
    group = na.NeuronGroup("q", [("w", "neuron in")], activation="stack neuron")
    text = error_of(na.tau_dormant, {"q": np.ones((3, 4))}, na.Layout([group]))
    assert text == "group 'q', activation 'stack neuron': expected no 'stack' axis, like the incoming parameters"


def test_declared_neurons_are_checked_against_outputs():
    layout = na.Layout([na.NeuronGroup("g", [("w", "neuron in")], neurons=4)])
    text = error_of(na.tau_dormant, {"g": np.ones((2, 3))}, layout)
    assert text == "group 'g', activation '... neuron': axis 'neuron' of size 3 does not fit neuron=4"


@pytest.mark.parametrize("thing", [[[1.0, 2.0]], 3.0, "array"])
def test_what_is_no_array_is_named(thing):
    """A list where an array belongs: the error names the group, the parameter and the type."""
    text = error_of(na.grama, {"fc.weight": thing}, LAYOUT, kind=TypeError)
    assert re.search(rf"group 'fc', parameter 'fc.weight'.*expected an array.*got {type(thing).__name__}", text)
    text = error_of(na.tau_dormant, {"fc": thing}, LAYOUT, kind=TypeError)
    assert re.search(rf"group 'fc'.*expected an array.*got {type(thing).__name__}", text)


def test_arrays_of_two_libraries_in_one_group_are_an_error():
    layout = na.Layout([na.NeuronGroup("g", [("w", "neuron in"), ("v", "neuron in")])])
    text = error_of(na.grama, {"w": np.ones((2, 2)), "v": torch.ones((2, 2))}, layout, kind=TypeError)
    assert "Multiple namespaces" in text


def test_arrays_are_positional_and_options_are_named():
    grads = DENSE_TORCH.draw(0)
    with pytest.raises(TypeError):
        na.grama(grads=grads, layout=DENSE_TORCH.layout)
    with pytest.raises(TypeError):
        na.grama(grads, DENSE_TORCH.layout, "weights")
    assert na.grama(grads, layout=DENSE_TORCH.layout).keys() == DENSE_TORCH.layout.keys()
    assert na.tau_dormant({"h": None, "q": None}, layout=TWIN_CRITICS.layout) == {}


def test_outputs_have_as_many_axes_of_neurons_as_what_makes_them():
    heads = na.NeuronGroup("v", [("v.w", "in neuron neuron")])  # its default is one axis
    message = "group 'v', activation '... neuron': expected as many axes called 'neuron' as in the incoming parameters"
    with pytest.raises(na.LayoutError, match=re.escape(message)):
        na.tau_dormant({"v": np.ones((7, 2, 3))}, na.Layout([heads]))
    flat = na.NeuronGroup("v", [("v.w", "in neuron neuron")], neurons=6)
    assert na.tau_dormant({"v": np.ones((7, 6))}, na.Layout([flat]))["v"].shape == (6,)


def test_an_error_lists_eight_groups_of_outputs():
    outputs = {f"g{place}": np.ones((2, 2)) for place in range(9)}
    assert error_of(na.tau_dormant, outputs, LAYOUT).endswith("there are g0, g1, g2, g3, g4, g5, g6, g7")


def test_one_neuron_without_an_entry_beside_one_with_one_is_an_error():
    group = na.NeuronGroup("g", [na.ParamView("u", "neuron", index=(0, -1))], neurons=2)
    text = error_of(na.grama, {"u": np.ones(2)}, na.Layout([group]))
    assert text == "group 'g': neuron 1 has no entry in any parameter that is left"


@pytest.mark.parametrize(("shape", "mean"), [((2,), 3.0), ((2, 1), 3.0), ((2, 2), 3.0), ((2, 0), 0.0)])
def test_a_magnitude_is_a_mean_over_the_entries_that_there_are(shape, mean):
    layout = na.Layout([na.NeuronGroup("g", [("u", "neuron in" if len(shape) > 1 else "neuron")])])
    assert na.magnitudes({"u": np.full(shape, -3.0)}, layout)["g"].tolist() == [mean, mean]


def test_stacked_neurons_are_found_by_their_index():
    group = na.NeuronGroup("q", [na.ParamView("w", "stack neuron", index=(0, 0, 1, 2))])
    found = na.magnitudes({"w": np.array([[1.0, 3.0, 4.0, 6.0], [2.0, 2.0, 0.0, 1.0]])}, na.Layout([group]))["q"]
    assert found.tolist() == [[2.0, 4.0, 6.0], [2.0, 0.0, 1.0]]


def test_a_group_without_outputs_hides_none_behind_it():
    layout = na.Layout([na.dense(name, weight=(name, "neuron in")) for name in ("a", "b")])
    assert list(na.tau_dormant({"a": None, "b": np.ones((3, 2))}, layout)) == ["b"]
