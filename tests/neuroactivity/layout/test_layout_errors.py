"""What a layout says when it is written wrong: the group, the parameter, the pattern, what was expected, what came."""

import numpy as np
import pytest

import neuroactivity as na
from neuroactivity import NeuronGroup, ParamView

W = ("w", "neuron in")


def error_of(function, *args, **options):
    with pytest.raises(na.LayoutError) as caught:
        function(*args, **options)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "rest", "message"),
    [
        ("in out", (), "expected an axis called 'neuron', found none"),
        ("neuron", ({"gate": 4},), "sizes has 'gate', which is no axis of the pattern"),
        ("neuron in", ({"in": 0},), "expected a positive size for 'in', got 0"),
        ("neuron in", ({"in": 2.0},), "expected a positive size for 'in', got 2.0"),
        ("neuron", ({}, (0, -2)), "expected owners of -1 or more in index, got -2"),
        ("neuron", ({}, (0, 2**20)), "expected owners below 1048576 in index, got a larger one"),
        ("neuron", ({}, (0, 10**8)), "expected owners below 1048576 in index, got a larger one"),
        ("neuron", ({}, (0, 10**400)), "expected owners below 1048576 in index, got a larger one"),
        ("neuron", ({}, (0,) * 99 + (2**19,)), "index gives one of 524289 neurons 99 positions, too many to be meant"),
        (None, (), "expected two strings"),
    ],
)
def test_view(pattern, rest, message):
    assert error_of(ParamView, "w", pattern, *rest) == f"parameter 'w', pattern {pattern!r}: {message}"


def test_an_index_of_no_position_is_one():
    assert ParamView("w", "neuron", index=()).index == ()


def test_view_of_no_parameter():
    assert error_of(ParamView, 3, "neuron") == "parameter 3, pattern 'neuron': expected two strings"


@pytest.mark.parametrize("index", [(0.5, 1), ("a",), 3])
def test_view_with_an_index_that_is_no_sequence_of_whole_numbers(index):
    text = error_of(ParamView, "w", "neuron", {}, index)
    assert text.startswith("parameter 'w', pattern 'neuron': ")


def test_view_with_sizes_that_are_no_mapping():
    assert error_of(ParamView, "w", "neuron in", 3).startswith("parameter 'w', pattern 'neuron in': ")


@pytest.mark.parametrize("name", ["", None, 3])
def test_group_without_a_name(name):
    assert error_of(NeuronGroup, name, [W]) == f"expected a name for the group, got {name!r}"


def test_group_without_incoming_parameters():
    assert error_of(NeuronGroup, "g", []) == "group 'g': expected at least one incoming parameter, got none"


@pytest.mark.parametrize("neurons", [0, -3, 2.5, "8", 10**9])
def test_group_with_an_impossible_number_of_neurons(neurons):
    text = error_of(NeuronGroup, "g", [W], neurons=neurons)
    assert text == f"group 'g': expected a positive number of neurons, got {neurons!r}"


@pytest.mark.parametrize("option", ["incoming", "unscored", "outgoing", "partners"])
@pytest.mark.parametrize("value", ["fc1", 3])
def test_group_with_one_thing_where_a_list_is_expected(option, value):
    text = error_of(NeuronGroup, "g", **{"incoming": [W], option: value})
    what = option if option == "partners" else f"{option} parameters"
    assert text == f"group 'g': expected a list of {what}, got {value!r}"


@pytest.mark.parametrize(
    ("option", "value"), [("resettable", "no"), ("status", 3), ("reason", None), ("resettable", 1)]
)
def test_group_with_an_option_of_another_type(option, value):
    assert error_of(NeuronGroup, "g", [W], **{option: value}) == f"group 'g': {option} cannot be {value!r}"


def test_group_with_an_activation_that_is_no_string():
    assert error_of(NeuronGroup, "g", [W], activation=3) == "group 'g': activation 3: expected a string"


@pytest.mark.parametrize("role", ["incoming", "unscored", "outgoing"])
def test_group_with_a_pattern_that_makes_no_sense(role):
    views = {"incoming": [W], role: [("v", "out in")]}
    text = error_of(NeuronGroup, "g", **views)
    assert text == "group 'g': parameter 'v', pattern 'out in': expected an axis called 'neuron', found none"


def test_group_with_an_activation_that_makes_no_sense():
    text = error_of(NeuronGroup, "g", [W], activation="batch features")
    assert text.startswith("group 'g': ")
    assert text.endswith("expected an axis called 'neuron', found none")
    assert "'batch features'" in text


@pytest.mark.parametrize("view", ["w", 3, ("w",), ("w", "neuron", {}, None), ["w", "neuron"]])
def test_group_with_something_that_is_no_view(view):
    text = error_of(NeuronGroup, "g", [view])
    assert text == f"group 'g': expected a ParamView, (param, pattern) or (param, pattern, sizes), got {view!r}"


def test_group_with_as_many_neurons_as_there_may_be():
    assert NeuronGroup("g", [W], neurons=2**20).neurons == 2**20
    assert "expected a positive number" in error_of(NeuronGroup, "g", [W], neurons=2**20 + 1)


def test_a_default_number_of_neurons_hides_no_error():
    group = NeuronGroup("g", [W])
    assert group.count({}, default=4) == 4
    assert error_of(group.count, {"w": (3,)}, default=4).startswith("group 'g', parameter 'w', pattern 'neuron in': ")
    assert error_of(group.count, {}) == "group 'g': no parameter tells its number of neurons; give neurons="


def test_an_error_lists_eight_parameters():
    def listed(number):
        params = {f"p{place}": np.ones((2, 2)) for place in range(number)}
        return error_of(na.Layout([NeuronGroup("g", [W])]).validate, params).partition("there are ")[2]

    assert listed(8) == "p0, p1, p2, p3, p4, p5, p6, p7"
    assert listed(9) == "p0, p1, p2, p3, p4, p5, p6, p7, ..."


def test_group_with_a_stack_in_some_views_only():
    text = error_of(NeuronGroup, "g", [("w", "stack neuron in"), W])
    assert text == (
        "group 'g', parameter 'w', pattern 'neuron in': expected a 'stack' axis, like the first incoming parameter"
    )
    text = error_of(NeuronGroup, "g", [W], unscored=[("b", "stack neuron")])
    assert text == (
        "group 'g', parameter 'b', pattern 'stack neuron': expected no 'stack' axis; "
        "if this axis holds copies that share the neurons, name it otherwise"
    )


def test_group_with_more_stacks_in_some_views_than_in_others():
    text = error_of(NeuronGroup, "g", [("w", "stack stack neuron")], unscored=[("b", "stack neuron")])
    assert text == (
        "group 'g', parameter 'b', pattern 'stack neuron': expected 2 'stack' axes, like the first incoming parameter"
    )
    text = error_of(NeuronGroup, "g", [("w", "stack neuron")], outgoing=[("v", "stack stack neuron out")])
    assert text == (
        "group 'g', parameter 'v', pattern 'stack stack neuron out': expected a 'stack' axis, like the first incoming "
        "parameter; if this axis holds copies that share the neurons, name it otherwise"
    )


def test_view_with_one_size_for_several_stacks():
    text = error_of(ParamView, "w", "(stack in) stack neuron", {"stack": 2})
    assert text.endswith("sizes has 'stack', which stands for several axes; give the sizes of the other names")


def test_layout_with_a_name_twice():
    groups = [NeuronGroup("g", [W]), NeuronGroup("g", [("v", "neuron")])]
    assert error_of(na.Layout, groups) == "group 'g': expected each name once, got it twice"


@pytest.mark.parametrize("thing", ["g", None, {"g": 1}])
def test_layout_with_something_that_is_no_group(thing):
    assert error_of(na.Layout, [thing]) == f"expected a NeuronGroup, got {thing!r}"


@pytest.mark.parametrize(
    "build",
    [
        lambda view: na.dense("fc", weight=view),
        lambda view: na.dense("fc", weight=W, bias=view),
        lambda view: na.dense("fc", weight=W, unscored=[view]),
        lambda view: na.dense("fc", weight=W, outgoing=[view]),
        lambda view: na.conv("fc", weight=view),
        lambda view: na.residual("fc", writers=[view], readers=[]),
        lambda view: na.residual("fc", writers=[W], readers=[view]),
        lambda view: na.attention("fc", heads=2, qkv=view),
        lambda view: na.attention("fc", heads=2, qkv=W, output=view),
        lambda view: na.norm("fc", scale=view),
        lambda view: na.norm("fc", scale="w", shift=view),
        lambda view: na.recurrent("fc", input=view, recurrent="hh", gates=4),
        lambda view: na.recurrent("fc", input="ih", recurrent=view, gates=4),
        lambda view: na.recurrent("fc", input="ih", recurrent="hh", biases=[view], gates=4),
    ],
)
def test_every_builder_names_the_group_the_parameter_and_the_pattern(build):
    text = error_of(build, ("fc.weight", "out in"))
    assert text == "group 'fc': parameter 'fc.weight', pattern 'out in': expected an axis called 'neuron', found none"


@pytest.mark.parametrize(
    ("views", "came"),
    [({}, "none"), ({"query": W, "key": W}, "two"), ({"qkv": W, "value": W}, "both")],
)
def test_attention_needs_three_projections_or_one(views, came):
    text = error_of(na.attention, "attn", heads=2, **views)
    assert text == "group 'attn': expected query, key and value, or qkv alone", came


def test_recurrent_weights_need_an_axis_called_other():
    text = error_of(na.recurrent, "rnn", input="ih", recurrent=("hh", "(gate neuron) in"), gates=4)
    assert text.startswith("group 'rnn', parameter 'hh'")
    assert text.endswith("expected an axis called 'other' in the pattern")
